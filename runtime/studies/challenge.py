"""The challenge's layout, ``<images>/<study>/<series>/*.dcm``: folders name studies and series.

A study's folder is listed when the study is requested.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import Group, kind_of
from rsna_lumbar.runtime.core.reasons import Reason, Skip, SkipFile
from rsna_lumbar.runtime.dicom.header import Header, read_header
from rsna_lumbar.runtime.studies.scan import Walk
from rsna_lumbar.runtime.studies.series_parts import Found
from rsna_lumbar.runtime.studies.series_readers import BY_TABLE, Rows, facts_of, series_of
from rsna_lumbar.runtime.studies.study import (
    FROM_HEADER,
    FROM_TABLE,
    IMAGE_FOLDERS,
    Series,
    Study,
    StudyStream,
    in_row_order,
    natural_key,
    relative,
    unused,
    without_uid,
)
from rsna_lumbar.runtime.studies.tables import SeriesTable, read_series_table


@dataclass(frozen=True, slots=True)
class Images:
    """The folder of images, and the studies in it to use."""

    folder: Path
    only: frozenset[str] | None  # if the data folders are studies: their names


def images_folder(
    walk: Walk,
    starts: Sequence[Path],
    table: SeriesTable | None,
    studies: Collection[str] | None,
) -> Images | None:
    """The folder of images that the data folders mean; None if it is not the challenge's layout."""
    folders = [start.resolve() for start in starts if start.is_dir()]
    if len(folders) == len(starts) and {one.parent.name for one in folders} & set(IMAGE_FOLDERS):
        images, *others = {one.parent for one in folders}
        return None if others else Images(images, frozenset(one.name for one in folders))
    if len(starts) > 1 or len(folders) != 1:
        return None
    data = starts[0]
    beside = [data / name for name in IMAGE_FOLDERS if os.path.isdir(data / name)]
    if beside:
        listed = {study_id for study_id, _ in table or ()} if studies is None else set(studies)
        holding = (folder for folder in beside if listed & set(walk.listing(folder, []).folders))
        return Images(next(holding, beside[0]), None)
    return Images(data, None) if folders[0].name in IMAGE_FOLDERS else None


def names_folders(images: Images, table: SeriesTable, walk: Walk) -> bool:
    """Whether the table names at least one study by its folder, or no study at all."""
    studies = {study_id for study_id, _ in table}
    return not studies or bool(studies & set(walk.listing(images.folder, []).folders))


def _require_plain(names: Iterable[str], where: str) -> None:
    """Check that names are plain folder names, so that none leads out of its folder.

    Raises:
        DataError: a name is a path, or cannot be a name.
    """
    if not all(name == Path(name).name and name not in ("", ".", "..") for name in names):
        raise DataError(f"{where} names a study or series that can be no folder's name")


def stream_challenge(
    walk: Walk,
    images: Images,
    table: SeriesTable | None,
    studies: Collection[str] | None,
    *,
    by_uid: bool = False,
) -> StudyStream:
    """Studies by their folders, named by the folder or by the UID of the first header in it."""
    _require_plain(studies or (), "the list of studies")
    beside = _table_beside(images.folder) if table is None else None
    if table is None:
        table = read_series_table(beside) if beside else {}
    _require_plain((name for key in table for name in key), "the table of series")
    strays: list[Skip] = []
    there = _studies_there(images, walk, strays)
    listed = _studies_listed(table, images, studies)
    if studies is not None:
        there &= set(studies)
        if not there and not any(listed.values()):
            raise DataError(
                f"{walk.data} holds none of the {len(studies)} studies that were asked for"
            )
    folders = there | listed.keys()
    folder_of = {name: name for name in folders}
    if by_uid:
        folder_of = _by_uid(images.folder, folders, walk)
    ids = tuple(in_row_order(folder_of))
    looked_into = (
        _challenge_study(
            study_id,
            images.folder / folder_of[study_id],
            listed.get(folder_of[study_id]),
            walk,
            by_uid=by_uid,
        )
        for study_id in ids
    )
    return StudyStream(walk.data, ids, tuple(strays), looked_into, beside)


def _studies_there(images: Images, walk: Walk, strays: list[Skip]) -> set[str]:
    """Names of the folders of studies; files beside these folders belong to no study."""
    if images.only is not None:
        return set(images.only)
    listing = walk.listing(images.folder, strays)
    hidden = [name for name in listing.folders if name.startswith(".")]
    strays += _outside([*listing.files, *(images.folder / name for name in hidden)], walk)
    return set(listing.folders) - set(hidden)


def _studies_listed(
    table: SeriesTable, images: Images, studies: Collection[str] | None
) -> dict[str, dict[str, Group | None]]:
    """Studies whose rows are requested -> the groups that read those series that a table names."""
    wanted = images.only if images.only is not None else studies
    listed: dict[str, dict[str, Group | None]] = {name: {} for name in studies or ()}
    for (study_id, series_id), group in table.items():
        if wanted is None or study_id in wanted:
            listed.setdefault(study_id, {})[series_id] = group
    return listed


def _by_uid(images: Path, folders: Iterable[str], walk: Walk) -> dict[str, str]:
    """UID -> folder."""
    found: dict[str, str] = {}
    for folder in sorted(folders):
        series = walk.listing(images / folder, []).folders
        files = (
            file
            for name in sorted(series, key=natural_key)
            for file in _in_order(walk.listing(images / folder / name, []).files)
        )
        header = _first_header(files)
        uid = header.study_uid if header and header.study_uid else without_uid(folder)
        if uid in found:
            raise DataError(
                f"two folders below {images} hold files of one study; name studies with "
                "--ids folder"
            )
        found[uid] = folder
    return found


def _challenge_study(
    study_id: str,
    folder: Path,
    listed: Mapping[str, Group | None] | None,
    walk: Walk,
    *,
    by_uid: bool,
) -> Study:
    """A study; of series that a table lists only one header is read, of the others all."""
    skips: list[Skip] = []
    groups = listed or {}
    listing = walk.listing(folder, skips)
    skips += _outside(listing.files, walk)
    there = set(listing.folders)
    files = {name: _files(folder / name, walk, skips) for name in sorted(there, key=natural_key)}
    if there <= groups.keys() and not any("~" in name for name in groups):
        series = [_by_table(study_id, one, groups[one], files[one]) for one in files]
        used: Container[str] = there
        skips += (
            Skip(
                Reason.KIND_NOT_NEEDED,
                relative(folder / one.series_id, walk.data),
                f"series of {len(one.files)} files: {one.why}",
            )
            for one in series
            if one.group is None
        )
    else:
        rows = Rows(groups)
        read = {name: _read_folder(of_series, walk.data) for name, of_series in files.items()}
        series = _told_by_headers(study_id, folder, read, rows, walk.data, skips)
        used = rows.used
    skips += (
        Skip(Reason.SERIES_NOT_FOUND, f"{folder.name}/{name}", kind_of(groups[name]))
        for name in sorted(groups, key=natural_key)
        if name not in used and groups[name] is not None
    )
    if by_uid:
        series = _with_uids(series)
    ordered = tuple(sorted(series, key=lambda one: natural_key(one.series_id)))
    return Study(study_id, ordered, listed is not None, tuple(skips))


@dataclass(frozen=True, slots=True)
class _Folder:
    """Files of a series folder: those with a readable header, and the others."""

    found: list[Found]
    unreadable: list[tuple[Path, Skip]]


def _read_folder(files: Iterable[Path], data: Path) -> _Folder:
    folder = _Folder([], [])
    for path in files:
        try:
            folder.found.append(Found(path, read_header(path)))
        except SkipFile as skip:
            folder.unreadable.append((path, skip.named(relative(path, data))))
    return folder


def _told_by_headers(
    study_id: str,
    folder: Path,
    folders: Mapping[str, _Folder],
    rows: Rows,
    data: Path,
    skips: list[Skip],
) -> list[Series]:
    """Series that no table lists. Unreadable files are reported by the decoder, or else here."""
    members = {name: one.found for name, one in folders.items() if one.found}
    names = {name: name for name in members}
    shown = {name: relative(folder / name, data) for name in members}
    series, left_out = series_of(study_id, members, names, shown, rows, is_spine=True)
    skips += left_out
    read = {one.series_id: one for one in series if one.group is not None}
    for name, one in folders.items():
        paths = [path for path, _ in one.unreadable]
        if not one.found:
            told_by = FROM_TABLE if name in rows.groups else FROM_HEADER
            read[name] = Series(study_id, name, rows.groups.get(name), told_by, ())
            series.append(read[name])
            rows.used.update({name} & rows.groups.keys())
        if name in read:
            whole = replace(read[name], files=_in_order((*read[name].files, *paths)))
            series[series.index(read[name])] = whole
        if name not in read or read[name].group is None:
            skips += (skip for _, skip in one.unreadable)
    return series


def _by_table(study_id: str, name: str, group: Group | None, files: tuple[Path, ...]) -> Series:
    header = _first_header(files)
    facts = facts_of(header, len(files)) if header is not None else None
    why = BY_TABLE[group is None]
    return Series(study_id, name, group, FROM_TABLE, files, facts=facts, why=why)


def _with_uids(series: Sequence[Series]) -> list[Series]:
    """Series named by their UIDs; two folders with the same UID get different names."""
    named: dict[str, Series] = {}
    for one in series:
        header = _first_header(one.files)
        uid = header.series_uid if header and header.series_uid else without_uid(one.series_id)
        name = unused(uid, named)
        named[name] = replace(one, series_id=name)
    return list(named.values())


def _files(folder: Path, walk: Walk, skips: list[Skip]) -> tuple[Path, ...]:
    listing = walk.listing(folder, skips)
    skips += _outside((folder / name for name in listing.folders), walk)
    return _in_order(listing.files)


def _table_beside(images: Path) -> Path | None:
    folder = images.resolve()
    path = folder.parent / folder.name.replace("_images", "_series_descriptions.csv")
    return path if os.path.isfile(path) else None


def _in_order(files: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(files, key=lambda path: natural_key(path.name)))


def _outside(paths: Iterable[Path], walk: Walk) -> list[Skip]:
    """Files that are outside the folders of the layout, each with the reason it is not read."""
    skips: list[Skip] = []
    files = [
        file
        for path in paths
        for file in (walk.below(path, skips) if os.path.isdir(path) else [path])
    ]
    return [*skips, *(_why_not_read(file, walk.data) for file in sorted(files))]


def _why_not_read(file: Path, data: Path) -> Skip:
    try:
        read_header(file)
    except SkipFile as skip:
        return skip.named(relative(file, data))
    return Skip(Reason.OUTSIDE_SERIES, relative(file, data))


def _first_header(files: Iterable[Path]) -> Header | None:
    for path in files:
        with suppress(SkipFile):
            return read_header(path)
    return None
