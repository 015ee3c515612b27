"""Any tree of DICOM files: headers alone say what belongs together, so it is indexed first."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.headers import read_header
from rsna_lumbar.runtime.labels import Group, kind_of
from rsna_lumbar.runtime.parts import Found
from rsna_lumbar.runtime.patients import Members, studies_of
from rsna_lumbar.runtime.reasons import Reason, Skip, SkipFile
from rsna_lumbar.runtime.studies import (
    FOLDER,
    WITHOUT_UID,
    Study,
    StudyStream,
    in_row_order,
    natural_key,
    relative,
)
from rsna_lumbar.runtime.study_kinds import series_of
from rsna_lumbar.runtime.tables import SeriesTable
from rsna_lumbar.runtime.walking import Walk

Progress = Callable[[int], object]

UNSAID = "neither class nor modality"
MOST_PARTS = 9  # of one series that a table can name


@dataclass(frozen=True, slots=True)
class _Study:
    """A study as it was found, and what a table says of it."""

    uid: str
    patients: int  # that share the UID
    members: Members
    listed_as: str | None  # study id of the table
    listed: dict[str, Group | None]  # key of a series, or of a part of it -> who is to read it

    @property
    def paths(self) -> list[Path]:
        return [one.path for files in self.members.values() for one in files]


def stream_tree(
    walk: Walk,
    starts: Sequence[Path],
    progress: Progress,
    table: SeriesTable,
    studies: Collection[str] | None,
    *,
    ids: str | None = None,
) -> StudyStream:
    """Studies by their UIDs, by the ids of a table, or by the folder of their files.

    Args:
        walk: of the folder that files are named relative to.
        starts: folders and files to look into.
        progress: called with 1 for each file.
        table: who reads which series, by folders or UIDs; may be empty.
        studies: names of the only ones wanted.
        ids: FOLDER or UID; None takes the ids of the table where it has the study, else UIDs.
    """
    strays: list[Skip] = []
    files = _read_headers(walk, starts, progress, strays, unsaid=bool(table))
    rows = _Rows(table, walk.data)
    named: dict[str, _Study] = {}
    for uid, patients, members in studies_of(files, walk.data):
        one = rows.matched(uid, patients, members, strays)
        name = one.listed_as if ids is None and one.listed_as else uid
        name = _folder_of(one.paths, walk.data) if ids == FOLDER else name
        if one.members:
            named[_unused(name, named)] = one
    if studies is not None:
        named = {name: one for name, one in named.items() if name in studies}
        if not named:
            raise DataError(
                f"{walk.data} holds none of the {len(studies)} studies that were asked for"
            )
    due = set(studies) if studies is not None else {study_id for study_id, _ in table}
    missing = {
        key: Skip(Reason.SERIES_NOT_FOUND, "/".join(key), kind_of(table[key]))
        for key in rows.unused(studies)
    }
    names = tuple(in_row_order({*named, *due}))
    looked_into = (
        _study(
            name, named.pop(name, None), walk.data, name in due, missing, by_folder=ids == FOLDER
        )
        for name in names
    )
    return StudyStream(walk.data, names, tuple(strays), looked_into)


def _read_headers(
    walk: Walk, starts: Sequence[Path], progress: Progress, strays: list[Skip], *, unsaid: bool
) -> list[Found]:
    """Every file that is an MR image; with ``unsaid`` also what does not say what it is."""
    found: list[Found] = []
    below = dict.fromkeys(path for start in starts for path in walk.below(start, strays))
    for path in sorted(below, key=lambda path: natural_key(relative(path, walk.data))):
        progress(1)
        try:
            header = read_header(path)
            if header.is_mr is None and not unsaid:
                raise SkipFile(Reason.NOT_MR_IMAGE, UNSAID)
        except SkipFile as skip:
            strays.append(Skip(skip.reason, relative(path, walk.data), skip.detail))
        else:
            found.append(Found(path, header))
    return found


class _Rows:
    """Rows of a table of series, found by UIDs, or by names or paths of folders."""

    def __init__(self, table: SeriesTable, data: Path) -> None:
        self._table = table
        self._data = data
        self._used: set[tuple[str, str]] = set()
        self._by_series: dict[str, set[str]] = {}
        for study_id, series_id in table:
            self._by_series.setdefault(series_id, set()).add(study_id)

    def matched(self, uid: str, patients: int, members: Members, strays: list[Skip]) -> _Study:
        """A study with its rows; what does not say what it is stays where a row names it."""
        listed: dict[str, Group | None] = {}
        kept: Members = {}
        ids: list[str] = []
        for key, files in members.items():
            found = self._of_series(uid, key, files)
            ids += found.values()
            listed |= {name: self._table[study_id, row] for (name, row), study_id in found.items()}
            said = [one for one in files if found or one.header.is_mr]
            if said:
                kept[key] = said
            strays += (
                Skip(Reason.NOT_MR_IMAGE, relative(one.path, self._data), UNSAID)
                for one in files
                if one not in said
            )
        return _Study(uid, patients, kept, next(iter(ids), None), listed)

    def _of_series(self, uid: str, key: str, files: Sequence[Found]) -> dict[tuple[str, str], str]:
        """(key of the series or of a part of it, series id of the row) -> study id of the row."""
        if not self._table:
            return {}
        folders = {one.path.parent for one in files}
        above = {one for folder in folders for one in (folder, *folder.parents)}
        study_names = {uid, *(name for folder in above for name in self._names(folder))}
        series_names = {key, *(name for folder in folders for name in self._names(folder))}
        found = {}
        for ending in ("", *(f"~{number}" for number in range(2, MOST_PARTS + 1))):
            for name in sorted(series_names):
                for study_id in sorted(self._by_series.get(name + ending, set()) & study_names):
                    found[key + ending, name + ending] = study_id
                    self._used.add((study_id, name + ending))
        return found

    def unused(self, studies: Collection[str] | None) -> list[tuple[str, str]]:
        """Rows of a detector's kind that mean no series found, of the studies asked for."""
        return [
            key
            for key in sorted(self._table)
            if key not in self._used
            and self._table[key] is not None
            and (studies is None or key[0] in studies)
        ]

    def _names(self, folder: Path) -> tuple[str, ...]:
        """What a table may call a folder; nothing above the data folder."""
        if folder == self._data:
            return (folder.resolve().name,)
        return (
            (folder.name, relative(folder, self._data)) if folder.is_relative_to(self._data) else ()
        )


def _study(
    name: str,
    found: _Study | None,
    data: Path,
    listed: bool,
    missing: Mapping[tuple[str, str], Skip],
    *,
    by_folder: bool,
) -> Study:
    absent = tuple(skip for (study_id, _), skip in missing.items() if study_id == name)
    if found is None:
        return Study(name, (), listed, absent)
    names: dict[str, str] = {}
    for key, files in found.members.items():
        folder = _folder_of([one.path for one in files], data) if by_folder else key
        names[key] = _unused(folder, names.values())
    shown = {key: f"{name}/{one}" for key, one in names.items()}
    series, skips = series_of(name, found.members, names, shown, found.listed, is_spine=False)
    if found.patients > 1:
        why = f"one study by its UID, {found.patients} patients"
        skips.append(Skip(Reason.REGROUPED, name, why))
    if found.uid.startswith(WITHOUT_UID):
        skips.append(Skip(Reason.REGROUPED, name, "no StudyInstanceUID: told by folder"))
    joined = sum(
        len({one.header.series_uid for one in files}) > 1 for files in found.members.values()
    )
    if joined:
        why = f"a SeriesInstanceUID for every file: {joined} series by headers"
        skips.append(Skip(Reason.REGROUPED, name, why))
    return Study(name, tuple(series), listed, (*absent, *skips))


def _folder_of(paths: Sequence[Path], data: Path) -> str:
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return folder.resolve().name if folder == data else relative(folder, data)


def _unused(name: str, taken: Collection[str]) -> str:
    candidates = chain([name], (f"{name}~{number}" for number in count(2)))
    return next(one for one in candidates if one not in taken)
