"""Folder -> studies and their series, each with the group that reads it.

Two layouts. **Challenge**: ``<images>/<study>/<series>/*.dcm`` where the folder of images is
``test_images`` or ``train_images`` (found from the root, from itself or from one study in it), or
any folder when a table of series is given; folders name studies and series. **Tree**: any other
folder; headers name them. Nothing here depends on the order in which a file system lists files.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.headers import Header, read_header
from rsna_lumbar.runtime.labels import GROUP_BY_KIND, Group
from rsna_lumbar.runtime.reasons import Reason, Skip, SkipFile
from rsna_lumbar.runtime.series_kind import reader_of

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

    def of(self, group: Group) -> tuple[Series, ...]:
        return tuple(series for series in self.series if series.group is group)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a folder holds. Studies are in the order of the submission's rows."""

    data: Path
    studies: tuple[Study, ...]
    skips: tuple[Skip, ...]

    @property
    def file_count(self) -> int:
        """Files of series that some group reads."""
        return sum(
            len(series.files)
            for study in self.studies
            for series in study.series
            if series.group is not None
        )


def find_studies(
    data: Path,
    series_table: Path | None = None,
    progress: Progress = ignore_progress,
    studies: Collection[str] | None = None,
) -> Inventory:
    """Find studies and series below a folder.

    Args:
        data: a challenge root, its folder of images, one study, or any tree of DICOM files.
        series_table: CSV with study_id, series_id, series_description; without it the table
            beside the folder of images is used, and headers where there is none.
        progress: called with 1 for every file (series, where a table tells all) looked at.
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
        inventory = _find_in_tree(data, progress, studies)
    else:
        inventory = _find_in_challenge(data, images, table, progress, studies)
    if studies is not None and not any(study.series for study in inventory.studies):
        raise DataError(f"{data} holds none of the {len(studies)} studies that were asked for")
    if not inventory.studies:
        others = len(inventory.skips)
        raise DataError(f"{data} holds no MR image ({others} other files); nothing to score")
    return inventory


def read_study_list(path: Path) -> tuple[str, ...]:
    """Study ids of a CSV table with a column ``study_id``, such as train.csv, each once, sorted.

    Raises:
        DataError: it is no such table, or names no study.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        ids = tuple(sorted(set(table["study_id"].str.strip()) - {""}))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table of studies ({error})") from error
    except KeyError:
        raise DataError(f"{path} lacks the column study_id") from None
    if not ids:
        raise DataError(f"{path} names no study")
    return ids


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


def _find_in_challenge(
    data: Path,
    images: _Images,
    table: SeriesTable | None,
    progress: Progress,
    studies: Collection[str] | None,
) -> Inventory:
    if table is None:
        table = _table_beside(images.folder)
    names = [images.only_study] if images.only_study else _folders(images.folder)
    if studies is not None:
        names = [name for name in names if name in studies]
    wanted = [images.only_study] if images.only_study else studies
    listed = {key: group for key, group in table.items() if wanted is None or key[0] in wanted}
    found = {(study, s) for study in names for s in _folders(images.folder / study)}
    skips: list[Skip] = []
    series = []
    for study_id, series_id in sorted(found | listed.keys()):
        if (study_id, series_id) not in found:
            skips.append(Skip(Reason.SERIES_NOT_FOUND, f"{study_id}/{series_id}"))
        folder = images.folder / study_id / series_id
        series.append(_challenge_series(folder, listed, data, skips))
        progress(1)
    due = {study for study, _ in listed} | set(studies or ())
    return Inventory(data, _studies(series, due), tuple(skips))


def _table_beside(images: Path) -> SeriesTable:
    folder = images.resolve()
    path = folder.parent / folder.name.replace("_images", "_series_descriptions.csv")
    return _read_series_table(path) if path.is_file() else {}


def _challenge_series(folder: Path, listed: SeriesTable, data: Path, skips: list[Skip]) -> Series:
    study_id, series_id = folder.parent.name, folder.name
    files = tuple(sorted(_files(folder), key=lambda path: natural_key(path.name)))
    if (study_id, series_id) in listed:
        return Series(study_id, series_id, listed[study_id, series_id], "table", files)
    return Series(study_id, series_id, _first_group(files, data, skips), "header", files)


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
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table of series ({error})") from error
    missing = [column for column in TABLE_COLUMNS if column not in table.columns]
    if missing:
        raise DataError(f"{path} lacks the column {missing[0]}; it needs {TABLE_COLUMNS}")
    groups = {}
    for line, row in enumerate(table[list(TABLE_COLUMNS)].itertuples(index=False), start=2):
        study_id, series_id, kind = (str(cell).strip() for cell in row)
        if kind not in GROUP_BY_KIND:
            kinds = ", ".join(GROUP_BY_KIND)
            raise DataError(f"{path} line {line}: kind {kind!r} is none of {kinds}")
        for name in (study_id, series_id):
            if name != Path(name).name or name in ("", ".", ".."):
                raise DataError(f"{path} line {line}: {name!r} is no folder name")
        groups[study_id, series_id] = GROUP_BY_KIND[kind]
    return groups


# Any tree


def _find_in_tree(data: Path, progress: Progress, studies: Collection[str] | None) -> Inventory:
    skips: list[Skip] = []
    members: dict[tuple[str, str], list[tuple[Path, Header]]] = defaultdict(list)
    files = sorted(_walk(data), key=lambda path: natural_key(relative(path, data)))
    for path in files:
        progress(1)
        try:
            header = read_header(path)
        except SkipFile as skip:
            skips.append(Skip(skip.reason, relative(path, data), skip.detail))
            continue
        folder = relative(path.parent, data)
        study_id = header.study_uid or folder
        if studies is None or study_id in studies:
            members[study_id, header.series_uid or folder].append((path, header))
    series = [
        Series(
            study,
            name,
            _group(found[0][1], f"{study}/{name}", len(found), skips),
            "header",
            tuple(path for path, _ in found),
        )
        for (study, name), found in members.items()
    ]
    return Inventory(data, _studies(series, set(studies or ())), tuple(skips))


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


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [entry.name for entry in os.scandir(folder) if entry.is_dir()]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [Path(entry.path) for entry in os.scandir(folder) if not entry.is_dir()]


def _studies(series: Iterable[Series], listed: set[str]) -> tuple[Study, ...]:
    by_study: dict[str, list[Series]] = {study_id: [] for study_id in listed}
    for one in series:
        by_study.setdefault(one.study_id, []).append(one)
    return tuple(
        Study(
            study_id,
            tuple(sorted(by_study[study_id], key=lambda s: natural_key(s.series_id))),
            study_id in listed,
        )
        # rows are sorted as text, where "_" comes after the digits: "12_..." before "1_..."
        for study_id in sorted(by_study, key=lambda name: name + "_")
    )
