"""Any tree of DICOM files, indexed first because only headers say which files belong together."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import Group, kind_of
from rsna_lumbar.runtime.core.reasons import Reason, Skip, SkipFile
from rsna_lumbar.runtime.dicom.header import read_header
from rsna_lumbar.runtime.studies.patients import Members, studies_of
from rsna_lumbar.runtime.studies.scan import Walk
from rsna_lumbar.runtime.studies.series_parts import Found
from rsna_lumbar.runtime.studies.series_readers import Rows, series_of
from rsna_lumbar.runtime.studies.study import (
    FOLDER,
    WITHOUT_UID,
    Study,
    StudyStream,
    in_row_order,
    natural_key,
    relative,
    unused,
)
from rsna_lumbar.runtime.studies.tables import SeriesTable

Progress = Callable[[int], object]

UNSAID = "neither class nor modality"


@dataclass(frozen=True, slots=True)
class _Study:
    """A study as it was found, and its rows in a table."""

    uid: str
    patients: int  # number of patients that share the UID
    members: Members
    listed_as: str | None  # its study id in the table
    rows: Rows

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
    """Studies named by their UIDs, by the ids of a table, or by the folder of their files.

    Args:
        walk: the folder that file names are relative to.
        starts: folders and files to search.
        progress: called with 1 for each file.
        table: the group that reads each series, by folders or UIDs; may be empty.
        studies: names of the only studies wanted.
        ids: FOLDER or UID; None takes the ids of the table if it lists the study, otherwise UIDs.
    """
    strays: list[Skip] = []
    files = _read_headers(walk, starts, progress, strays, unsaid=bool(table))
    rows = _Table(table, walk.data)
    named: dict[str, _Study] = {}
    for uid, patients, members in studies_of(files, walk.data):
        one = rows.matched(uid, patients, members, strays)
        name = one.listed_as if ids is None and one.listed_as else uid
        name = _folder_of(one.paths, walk.data) if ids == FOLDER else name
        if one.members:
            named[unused(name, named)] = one
    if studies is not None:
        named = {name: one for name, one in named.items() if name in studies}
        if not named and not rows.studies & set(studies):
            raise DataError(
                f"{walk.data} holds none of the {len(studies)} studies that were asked for"
            )
    found_as = {one.listed_as for one in named.values()}
    listed = {name for name, one in named.items() if one.listed_as}
    due = set(studies) if studies is not None else {*listed, *(rows.studies - found_as)}
    names = tuple(in_row_order({*named, *due}))
    looked_into = (
        _study(name, named.pop(name, None), rows, name in due, by_folder=ids == FOLDER)
        for name in names
    )
    return StudyStream(walk.data, names, tuple(strays), looked_into)


def _read_headers(
    walk: Walk, starts: Sequence[Path], progress: Progress, strays: list[Skip], *, unsaid: bool
) -> list[Found]:
    """Headers of all MR images; with ``unsaid`` also of files that do not say what they are."""
    found: list[Found] = []
    below = dict.fromkeys(path for start in starts for path in walk.below(start, strays))
    for path in sorted(below, key=lambda path: natural_key(relative(path, walk.data))):
        progress(1)
        try:
            header = read_header(path)
            if header.is_mr is None and not unsaid:
                raise SkipFile(Reason.NOT_MR_IMAGE, UNSAID)
        except SkipFile as skip:
            strays.append(skip.named(relative(path, walk.data)))
        else:
            found.append(Found(path, header))
    return found


class _Table:
    """A table of series, searched by UIDs, or by names or paths of folders."""

    def __init__(self, table: SeriesTable, data: Path) -> None:
        self.data = data
        self._rows: dict[str, dict[str, Group | None]] = defaultdict(dict)
        for (study_id, series_id), group in table.items():
            self._rows[study_id][series_id] = group

    @property
    def studies(self) -> set[str]:
        return set(self._rows)

    def rows(self, study_id: str) -> Mapping[str, Group | None]:
        """Series id -> the group that is to read it."""
        return self._rows.get(study_id, {})

    def matched(self, uid: str, patients: int, members: Members, strays: list[Skip]) -> _Study:
        """A study with its rows; files that do not say what they are stay if a row names them."""
        aliases = self._aliases(members)
        study_id = self._study_id(uid, members, aliases)
        rows = Rows(self.rows(study_id) if study_id else {}, aliases)
        bases = {one.partition("~")[0] for one in rows.groups} | set(rows.groups)
        kept: Members = {}
        for key, files in members.items():
            is_listed = not bases.isdisjoint(aliases[key])
            kept[key] = [one for one in files if is_listed or one.header.is_mr]
            strays += (
                Skip(Reason.NOT_MR_IMAGE, relative(one.path, self.data), UNSAID)
                for one in files
                if not (is_listed or one.header.is_mr)
            )
        said = {key: files for key, files in kept.items() if files}
        return _Study(uid, patients, said, study_id, rows)

    def _study_id(
        self, uid: str, members: Members, aliases: Mapping[str, Collection[str]]
    ) -> str | None:
        """The table's id for a study: the one of its possible names with the most series."""
        folders = {one.path.parent for files in members.values() for one in files}
        above = {one for folder in folders for one in (folder, *folder.parents)}
        names = {uid, *(name for folder in above for name in self._names(folder))}
        known = {alias for of_series in aliases.values() for alias in of_series}
        counts = {
            name: sum(one in known or one.partition("~")[0] in known for one in self._rows[name])
            for name in sorted(names & self.studies)
        }
        best = max(counts, key=lambda name: counts[name], default=None)
        if best is not None and counts[best]:
            return best
        return uid if uid in self._rows else None

    def _aliases(self, members: Members) -> dict[str, set[str]]:
        """Key of a series -> possible ids in a table: its UID, and the folder that only it uses."""
        if not self._rows:
            return {key: {key} for key in members}
        counts: dict[Path, Counter[str]] = defaultdict(Counter)
        for key, files in members.items():
            for one in files:
                counts[one.path.parent][key] += 1
        aliases = {key: {key} for key in members}
        for folder, of_folder in counts.items():
            (key, most), *others = of_folder.most_common(2)
            if not others or others[0][1] < most:
                aliases[key].update(self._names(folder))
        return aliases

    def _names(self, folder: Path) -> tuple[str, ...]:
        """Possible ids of a folder in a table; nothing above the data folder."""
        if folder == self.data:
            return (folder.resolve().name,)
        inside = folder.is_relative_to(self.data)
        return (folder.name, relative(folder, self.data)) if inside else ()


def _study(
    name: str, found: _Study | None, table: _Table, listed: bool, *, by_folder: bool
) -> Study:
    if found is None:
        return Study(name, (), listed, tuple(_not_found(name, table.rows(name), ())))
    names: dict[str, str] = {}
    for key, files in found.members.items():
        folder = _folder_of([one.path for one in files], table.data) if by_folder else key
        names[key] = unused(folder, names.values())
    shown = {key: f"{name}/{one}" for key, one in names.items()}
    series, skips = series_of(name, found.members, names, shown, found.rows, is_spine=False)
    missing = _not_found(found.listed_as or name, found.rows.groups, found.rows.used)
    return Study(name, tuple(series), listed, (*missing, *skips, *_regrouped(name, found)))


def _not_found(
    study_id: str, rows: Mapping[str, Group | None], used: Container[str]
) -> Iterator[Skip]:
    """Rows with a detector's kind that match no series."""
    for series_id, group in sorted(rows.items()):
        if group is not None and series_id not in used:
            what = f"{study_id}/{series_id}"
            yield Skip(Reason.SERIES_NOT_FOUND, what, kind_of(group))


def _regrouped(name: str, found: _Study) -> Iterator[Skip]:
    """Report studies that UIDs alone did not determine."""
    if found.patients > 1:
        why = f"one study by its UID, {found.patients} patients"
        yield Skip(Reason.REGROUPED, name, why)
    if found.uid.startswith(WITHOUT_UID):
        yield Skip(Reason.REGROUPED, name, "no StudyInstanceUID: told by folder")
    joined = sum(
        len({one.header.series_uid for one in files}) > 1 for files in found.members.values()
    )
    if joined:
        why = f"a SeriesInstanceUID for every file: {joined} series by headers"
        yield Skip(Reason.REGROUPED, name, why)


def _folder_of(paths: Sequence[Path], data: Path) -> str:
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return folder.resolve().name if folder == data else relative(folder, data)
