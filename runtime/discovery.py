"""Folder -> studies and their series, each with the group that reads it.

Folders are looked into when a study is asked for, so that the first can be scored while the last
are still to be listed; a tree, whose headers alone say what belongs together, is indexed first.

Two layouts. **Challenge**: ``<images>/<study>/<series>/*.dcm`` where the folder of images is
``test_images`` or ``train_images`` (found from the root, from itself or from one study in it), or
any folder when a table of series is given; folders name studies and series. **Tree**: any other
folder; headers name them. Nothing here depends on the order in which a file system lists files.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.headers import Header, read_header
from rsna_lumbar.runtime.labels import GROUP_BY_KIND, Group
from rsna_lumbar.runtime.reasons import Reason, Skip, SkipFile
from rsna_lumbar.runtime.series_kind import reader_of

Entry = TypeVar("Entry")
Progress = Callable[[int], object]
SeriesTable = dict[tuple[str, str], Group]  # (study id, series id) -> who reads it


def ignore_progress(_: int) -> None:
    """The progress of a caller who does not look."""


# What a root means: the first of these that holds a study asked for, or else of the table, or else
# the first there is.
IMAGE_FOLDERS = ("test_images", "train_images")
TABLE_COLUMNS = ("study_id", "series_id", "series_description")


@dataclass(frozen=True, slots=True)
class Series:
    """Files of one series, in natural order of their names, and who reads it (None: nobody)."""

    study_id: str
    series_id: str
    group: Group | None
    group_from: str  # "table" or "header"
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """The series of one study, in natural order of their ids."""

    study_id: str
    series: tuple[Series, ...]
    listed: bool  # a table asks for its rows, whatever was found
    skips: tuple[Skip, ...] = ()  # what of it was left out when it was found

    def of(self, group: Group) -> tuple[Series, ...]:
        return tuple(series for series in self.series if series.group is group)

    @property
    def file_count(self) -> int:
        """Files of series that some group reads."""
        return sum(len(series.files) for series in self.series if series.group is not None)


@dataclass(frozen=True, slots=True)
class StudyStream:
    """Studies that are looked into one by one, in the order of the submission's rows."""

    data: Path
    count: int
    strays: tuple[Skip, ...]  # files that belong to no study
    studies: Iterator[Study]  # to be gone through once


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a folder holds. Studies are in the order of the submission's rows."""

    data: Path
    studies: tuple[Study, ...]
    strays: tuple[Skip, ...]  # files that belong to no study

    @property
    def count(self) -> int:
        return len(self.studies)

    @property
    def skips(self) -> tuple[Skip, ...]:
        """Everything that was left out."""
        return (*self.strays, *(skip for study in self.studies for skip in study.skips))

    @property
    def file_count(self) -> int:
        """Files of series that some group reads."""
        return sum(study.file_count for study in self.studies)


def find_studies(
    data: Path,
    series_table: Path | None = None,
    progress: Progress = ignore_progress,
    studies: Collection[str] | None = None,
) -> Inventory:
    """Find all studies and series below a folder, as :func:`stream_studies` does one by one."""
    stream = stream_studies(data, series_table, progress, studies)
    return Inventory(stream.data, tuple(stream.studies), stream.strays)


def stream_studies(
    data: Path,
    series_table: Path | None = None,
    progress: Progress = ignore_progress,
    studies: Collection[str] | None = None,
) -> StudyStream:
    """Find the studies below a folder; each is looked into when it is asked for.

    Args:
        data: a challenge root, its folder of images, one study, or any tree of DICOM files.
        series_table: CSV with study_id, series_id, series_description; without it the table
            beside the folder of images is used, and headers where there is none.
        progress: called with 1 for every file of a tree, all of which are looked at first.
        studies: ids of the only studies wanted; one of them that is not there counts as listed
            by a table. None takes all that there are.

    Raises:
        DataError: no such folder, nothing in it to score, or the table cannot be used.
    """
    if not data.is_dir():
        raise DataError(f"{data} is no folder; name a folder with DICOM files")
    table = _read_series_table(series_table) if series_table else None
    images = _images_folder(data, table, studies)
    if images is None:
        return _stream_tree(data, progress, studies)
    return _stream_challenge(data, images, table, studies)


def read_study_list(path: Path) -> tuple[str, ...]:
    """Study ids of a CSV table with a column ``study_id``, such as train.csv, each once, sorted.

    Raises:
        DataError: it is no such table, or names no study.
    """
    ids = tuple(sorted({row["study_id"] for row in read_rows(path, ("study_id",))} - {""}))
    if not ids:
        raise DataError(f"{path} names no study")
    return ids


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Columns of a CSV table as text, stripped. Not by pandas, which takes 0.3 s to load.

    Raises:
        DataError: it is no such table, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if reader.fieldnames is None:
                raise ValueError("it is empty")
            missing = [name for name in columns if name not in reader.fieldnames]
            if missing:
                raise DataError(f"{path} lacks the column {missing[0]}; it needs {tuple(columns)}")
            return [{name: (row[name] or "").strip() for name in columns} for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error})") from error


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``9.dcm`` comes before ``10.dcm``."""
    return tuple(
        (0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part)
        for part in re.split(r"([0-9]+)", name)
        if part
    )


def relative(path: Path, data: Path) -> str:
    """A path as reports name it: relative to the data folder, with forward slashes."""
    return Path(os.path.relpath(path, data)).as_posix()


# The challenge's layout


@dataclass(frozen=True, slots=True)
class _Images:
    folder: Path
    only_study: str | None  # where the data folder is one study of it


def _images_folder(
    data: Path, table: SeriesTable | None, studies: Collection[str] | None
) -> _Images | None:
    beside = [data / name for name in IMAGE_FOLDERS if (data / name).is_dir()]
    if beside:
        listed = {study_id for study_id, _ in table or ()} if studies is None else set(studies)
        holding = (folder for folder in beside if listed & set(_folders(folder)))
        return _Images(next(holding, beside[0]), None)
    folder = data.resolve()
    if folder.name in IMAGE_FOLDERS:
        return _Images(data, None)
    if folder.parent.name in IMAGE_FOLDERS:
        return _Images(folder.parent, folder.name)
    return None if table is None else _Images(data, None)


def _stream_challenge(
    data: Path,
    images: _Images,
    table: SeriesTable | None,
    studies: Collection[str] | None,
) -> StudyStream:
    if table is None:
        table = _table_beside(images.folder)
    names = {images.only_study} if images.only_study else set(_folders(images.folder))
    wanted = {images.only_study} if images.only_study else studies
    names = {name for name in names if not name.startswith(".")}
    if studies is not None:
        names &= set(studies)
    listed: dict[str, dict[str, Group]] = {name: {} for name in studies or ()}
    for (study_id, series_id), group in table.items():
        if wanted is None or study_id in wanted:
            listed.setdefault(study_id, {})[series_id] = group
    if studies is not None and not names and not any(listed.values()):
        raise DataError(f"{data} holds none of the {len(studies)} studies that were asked for")
    found = _in_row_order(names | listed.keys())
    if not found:
        raise DataError(f"{data} holds no study; nothing to score")
    looked_into = (
        _challenge_study(images.folder / study_id, listed.get(study_id), data) for study_id in found
    )
    return StudyStream(data, len(found), (), looked_into)


def _challenge_study(folder: Path, listed: Mapping[str, Group] | None, data: Path) -> Study:
    skips: list[Skip] = []
    groups = listed or {}
    there = set(_readable(_folders, folder, data, skips))
    series = []
    for series_id in sorted(there | groups.keys(), key=natural_key):
        if series_id not in there:
            skips.append(Skip(Reason.SERIES_NOT_FOUND, f"{folder.name}/{series_id}"))
        series.append(_challenge_series(folder / series_id, groups.get(series_id), data, skips))
    return Study(folder.name, tuple(series), listed is not None, tuple(skips))


def _table_beside(images: Path) -> SeriesTable:
    folder = images.resolve()
    path = folder.parent / folder.name.replace("_images", "_series_descriptions.csv")
    return _read_series_table(path) if path.is_file() else {}


def _challenge_series(folder: Path, listed: Group | None, data: Path, skips: list[Skip]) -> Series:
    found = _readable(_files, folder, data, skips)
    files = tuple(sorted(found, key=lambda path: natural_key(path.name)))
    group = listed or _first_group(files, data, skips)
    told_by = "table" if listed else "header"
    return Series(folder.parent.name, folder.name, group, told_by, files)


def _first_group(files: tuple[Path, ...], data: Path, skips: list[Skip]) -> Group | None:
    """Group by the first header that can be read.

    Files before it are named by the decoder; where none can be read, they are named here.
    """
    unreadable = []
    for path in files:
        try:
            header = read_header(path)
        except SkipFile as skip:
            unreadable.append(Skip(skip.reason, relative(path, data), skip.detail))
        else:
            return _group(header, relative(path.parent, data), len(files), skips)
    skips.extend(unreadable)
    return None


def _group(header: Header, series: str, file_count: int, skips: list[Skip]) -> Group | None:
    """The group that reads a series; where nobody does, the series is named with the reason."""
    reader = reader_of(header)
    if isinstance(reader, Group):
        return reader
    skips.append(Skip(reader, series, f"series of {file_count} files"))
    return None


def _read_series_table(path: Path) -> SeriesTable:
    groups = {}
    for line, row in enumerate(read_rows(path, TABLE_COLUMNS), start=2):
        study_id, series_id, kind = row.values()
        if kind not in GROUP_BY_KIND:
            kinds = ", ".join(GROUP_BY_KIND)
            raise DataError(f"{path} line {line}: kind {kind!r} is none of {kinds}")
        for name in (study_id, series_id):
            if name != Path(name).name or name in ("", ".", ".."):
                raise DataError(f"{path} line {line}: {name!r} is no folder name")
        groups[study_id, series_id] = GROUP_BY_KIND[kind]
    return groups


# Any tree


def _stream_tree(data: Path, progress: Progress, studies: Collection[str] | None) -> StudyStream:
    strays: list[Skip] = []
    found: dict[str, dict[str, _Members]] = {name: {} for name in studies or ()}
    files = sorted(_walk(data), key=lambda path: natural_key(relative(path, data)))
    for path in files:
        progress(1)
        try:
            header = read_header(path)
        except SkipFile as skip:
            strays.append(Skip(skip.reason, relative(path, data), skip.detail))
            continue
        folder = relative(path.parent, data)
        study_id = header.study_uid or folder
        if studies is None or study_id in studies:
            members = found.setdefault(study_id, {})
            members.setdefault(header.series_uid or folder, _Members(header)).paths.append(path)
    if studies is not None and not any(found.values()):
        raise DataError(f"{data} holds none of the {len(studies)} studies that were asked for")
    if not found:
        raise DataError(f"{data} holds no MR image ({len(strays)} other files); nothing to score")
    count = len(found)
    grouped = (
        _tree_study(study_id, found.pop(study_id), listed=studies is not None)
        for study_id in _in_row_order(found)
    )
    return StudyStream(data, count, tuple(strays), grouped)


@dataclass(frozen=True, slots=True)
class _Members:
    """Files of a series, and the header of the first."""

    header: Header
    paths: list[Path] = field(default_factory=list)


def _tree_study(study_id: str, members: Mapping[str, _Members], *, listed: bool) -> Study:
    skips: list[Skip] = []
    series = tuple(
        Series(
            study_id,
            series_id,
            _group(of_series.header, f"{study_id}/{series_id}", len(of_series.paths), skips),
            "header",
            tuple(of_series.paths),
        )
        for series_id, of_series in sorted(members.items(), key=lambda one: natural_key(one[0]))
    )
    return Study(study_id, series, listed, tuple(skips))


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder, links followed, no folder entered twice."""
    seen = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        found = os.stat(name)
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        folders.sort(key=natural_key)
        yield from (Path(name, file) for file in files)


# Both


def _readable(
    listing: Callable[[Path], list[Entry]], folder: Path, data: Path, skips: list[Skip]
) -> list[Entry]:
    """What a folder holds; nothing, and a skip, where it cannot be listed."""
    try:
        return listing(folder)
    except OSError as error:
        skips.append(Skip(Reason.UNREADABLE, relative(folder, data), error.strerror or ""))
        return []


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [entry.name for entry in os.scandir(folder) if entry.is_dir()]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [Path(entry.path) for entry in os.scandir(folder) if not entry.is_dir()]


def _in_row_order(study_ids: Iterable[str]) -> list[str]:
    """Rows are sorted as text, where "_" comes after the digits: "12_..." before "1_..."."""
    return sorted(study_ids, key=lambda name: name + "_")
