"""Any tree of DICOM files: headers alone say what belongs together, so it is indexed first."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.headers import read_header
from rsna_lumbar.runtime.labels import Group
from rsna_lumbar.runtime.reasons import Reason, Skip, SkipFile
from rsna_lumbar.runtime.series_kind import reader_of
from rsna_lumbar.runtime.studies import (
    Series,
    Study,
    StudyStream,
    group_of,
    in_row_order,
    natural_key,
    relative,
    without_uid,
)
from rsna_lumbar.runtime.walking import Walk

Progress = Callable[[int], object]


def stream_tree(
    walk: Walk, progress: Progress, studies: Collection[str] | None, *, by_folder: bool = False
) -> StudyStream:
    """Studies by their UIDs, named by them or by the folder that holds their files."""
    data, strays = walk.data, list[Skip]()
    found: dict[str, dict[str, _Members]] = {}
    files = sorted(walk.below(data, strays), key=lambda path: natural_key(relative(path, data)))
    for path in files:
        progress(1)
        try:
            header = read_header(path)
        except SkipFile as skip:
            strays.append(Skip(skip.reason, relative(path, data), skip.detail))
            continue
        folder = without_uid(relative(path.parent, data))
        members = found.setdefault(header.study_uid or folder, {})
        of_series = members.setdefault(header.series_uid or folder, _Members())
        of_series.paths.append(path)
        of_series.readers[reader_of(header)] += 1
    if not found:
        raise DataError(f"{data} holds no MR image ({len(strays)} other files); nothing to score")
    if by_folder:
        found = _named_by_folder(found, data)
    if studies is not None:
        found = {name: found.get(name, {}) for name in studies}
        if not any(found.values()):
            raise DataError(f"{data} holds none of the {len(studies)} studies that were asked for")
    ids = tuple(in_row_order(found))
    grouped = (
        _tree_study(study_id, found.pop(study_id), listed=studies is not None) for study_id in ids
    )
    return StudyStream(data, ids, tuple(strays), grouped)


def _named_by_folder(
    found: Mapping[str, Mapping[str, _Members]], data: Path
) -> dict[str, dict[str, _Members]]:
    """Studies and series under the folder that all their files are in; a second one there as ~2."""
    named: dict[str, dict[str, _Members]] = {}
    for _, members in sorted(found.items()):
        series: dict[str, _Members] = {}
        for _, of_series in sorted(members.items()):
            series[_unused(_folder_of(of_series.paths, data), series)] = of_series
        paths = [path for of_series in members.values() for path in of_series.paths]
        named[_unused(_folder_of(paths, data), named)] = series
    return named


def _folder_of(paths: Sequence[Path], data: Path) -> str:
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return folder.resolve().name if folder == data else relative(folder, data)


def _unused(name: str, taken: Container[str]) -> str:
    candidates = chain([name], (f"{name}~{number}" for number in count(2)))
    return next(one for one in candidates if one not in taken)


@dataclass(slots=True)
class _Members:
    """Files of a series, and who reads it by how many of them, or why nobody does."""

    readers: Counter[Group | Reason] = field(default_factory=Counter)
    paths: list[Path] = field(default_factory=list)


def _tree_study(study_id: str, members: Mapping[str, _Members], *, listed: bool) -> Study:
    skips: list[Skip] = []
    series = tuple(
        Series(
            study_id,
            series_id,
            group_of(
                of_series.readers.elements(),
                f"{study_id}/{series_id}",
                len(of_series.paths),
                skips,
            ),
            "header",
            tuple(of_series.paths),
        )
        for series_id, of_series in sorted(members.items(), key=lambda one: natural_key(one[0]))
    )
    return Study(study_id, series, listed, tuple(skips))
