"""The challenge's layout: ``<images>/<study>/<series>/*.dcm``; folders name studies and series.

A study's folder is listed when the study is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.headers import Header, read_header
from rsna_lumbar.runtime.labels import Group
from rsna_lumbar.runtime.reasons import Reason, Skip, SkipFile
from rsna_lumbar.runtime.series_kind import reader_of
from rsna_lumbar.runtime.studies import (
    IMAGE_FOLDERS,
    Series,
    Study,
    StudyStream,
    group_of,
    in_row_order,
    natural_key,
    relative,
    tells,
    without_uid,
)
from rsna_lumbar.runtime.tables import SeriesTable, read_series_table, require_folder_names
from rsna_lumbar.runtime.walking import Walk

HEADERS_A_SERIES = 5  # that vote on its kind: one odd file, such as a localizer, decides nothing


@dataclass(frozen=True, slots=True)
class Images:
    """Where studies lie."""

    folder: Path
    only_study: str | None  # where the data folder is one study of it


def images_folder(
    walk: Walk, table: SeriesTable | None, studies: Collection[str] | None
) -> Images | None:
    """The folder of images that a root means; None where it is no challenge's."""
    data = walk.data
    beside = [data / name for name in IMAGE_FOLDERS if os.path.isdir(data / name)]
    if beside:
        listed = {study_id for study_id, _ in table or ()} if studies is None else set(studies)
        holding = (folder for folder in beside if listed & set(walk.listing(folder, []).folders))
        return Images(next(holding, beside[0]), None)
    folder = data.resolve()
    if folder.name in IMAGE_FOLDERS:
        return Images(data, None)
    if folder.parent.name in IMAGE_FOLDERS:
        return Images(folder.parent, folder.name)
    return None if table is None else Images(data, None)


def stream_challenge(
    walk: Walk,
    images: Images,
    table: SeriesTable | None,
    studies: Collection[str] | None,
    *,
    by_uid: bool = False,
) -> StudyStream:
    """Studies by their folders, named by them or by the UID of the first header in them."""
    require_folder_names(studies or (), "the list of studies")
    beside = _table_beside(images.folder) if table is None else None
    if table is None:
        table = read_series_table(beside) if beside else {}
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
    if not folders:
        raise DataError(f"{walk.data} holds no study; nothing to score")
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
    """Names of the folders of studies; what lies beside them belongs to none."""
    if images.only_study:
        return {images.only_study}
    listing = walk.listing(images.folder, strays)
    hidden = [name for name in listing.folders if name.startswith(".")]
    strays += _outside([*listing.files, *(images.folder / name for name in hidden)], walk)
    return set(listing.folders) - set(hidden)


def _studies_listed(
    table: SeriesTable, images: Images, studies: Collection[str] | None
) -> dict[str, dict[str, Group]]:
    """Studies whose rows are asked for, and who reads those of their series that a table names."""
    wanted = {images.only_study} if images.only_study else studies
    listed: dict[str, dict[str, Group]] = {name: {} for name in studies or ()}
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
    study_id: str, folder: Path, listed: Mapping[str, Group] | None, walk: Walk, *, by_uid: bool
) -> Study:
    skips: list[Skip] = []
    groups = listed or {}
    listing = walk.listing(folder, skips)
    skips += _outside(listing.files, walk)
    there = set(listing.folders)
    series = []
    for name in sorted(there | groups.keys(), key=natural_key):
        if name not in there:
            kind = groups[name].series_kind
            skips.append(Skip(Reason.SERIES_NOT_FOUND, f"{folder.name}/{name}", kind))
        found = _challenge_series(study_id, folder / name, groups.get(name), walk, skips)
        header = _first_header(found.files) if by_uid else None
        uid = header.series_uid if header and header.series_uid else without_uid(name)
        series.append(replace(found, series_id=uid) if by_uid else found)
    return Study(study_id, tuple(series), listed is not None, tuple(skips))


def _table_beside(images: Path) -> Path | None:
    folder = images.resolve()
    path = folder.parent / folder.name.replace("_images", "_series_descriptions.csv")
    return path if os.path.isfile(path) else None


def _challenge_series(
    study_id: str, folder: Path, listed: Group | None, walk: Walk, skips: list[Skip]
) -> Series:
    listing = walk.listing(folder, skips)
    skips += _outside((folder / name for name in listing.folders), walk)
    files = _in_order(listing.files)
    group = listed or _told_by_header(files, walk.data, skips)
    told_by = "table" if listed else "header"
    return Series(study_id, folder.name, group, told_by, files)


def _in_order(files: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(files, key=lambda path: natural_key(path.name)))


def _outside(paths: Iterable[Path], walk: Walk) -> list[Skip]:
    """What lies where the layout has no place for it, each file with the reason it is not read."""
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
        return Skip(skip.reason, relative(file, data), skip.detail)
    return Skip(Reason.OUTSIDE_SERIES, relative(file, data))


def _first_header(files: Iterable[Path]) -> Header | None:
    for path in files:
        with suppress(SkipFile):
            return read_header(path)
    return None


def _told_by_header(files: tuple[Path, ...], data: Path, skips: list[Skip]) -> Group | None:
    """Group by some headers from all over the series, or the first beyond them that tells.

    Files whose headers cannot be read are named by the decoder; where none can be read, here.
    """
    unreadable: list[Skip] = []
    readers: list[Group | Reason] = []
    for number, path in enumerate(_spread(files)):
        if number >= HEADERS_A_SERIES and any(map(tells, readers)):
            break
        try:
            readers.append(reader_of(read_header(path)))
        except SkipFile as skip:
            unreadable.append(Skip(skip.reason, relative(path, data), skip.detail))
    series = relative(files[0].parent, data) if files else ""
    group = group_of(readers, series, len(files), skips)
    if len(unreadable) == len(files):
        skips.extend(unreadable)
    return group


def _spread(files: Sequence[Path]) -> list[Path]:
    """First some at equal distances, in order, then the others."""
    count = min(HEADERS_A_SERIES, len(files))
    first = [files[index * len(files) // count] for index in range(count)]
    return [*first, *(path for path in files if path not in first)]
