"""Files of a tree -> studies: whose they are, where UIDs alone do not say it.

- Files under one StudyInstanceUID are of several patients where their PatientIDs disagree; where
  these are blank, where neither the patient's folder nor the FrameOfReferenceUID is shared.
- Without a StudyInstanceUID the patient's folder is the study, as far as its folders do not
  contradict one another by their FrameOfReferenceUIDs.
- Files that each have a SeriesInstanceUID of their own, and are alike, are one series.

The **patient's folder** is the one that holds the folders of series: a folder of files of one
series is the series', one of several series is the patient's.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from rsna_lumbar.runtime.parts import Found
from rsna_lumbar.runtime.series_kind import plane_of
from rsna_lumbar.runtime.studies import natural_key, relative, without_uid

LEAST_ALIKE = 3  # files, each of a series of its own, that are one series

Members = dict[str, list[Found]]  # key of a series -> its files


def studies_of(files: Sequence[Found], data: Path) -> list[tuple[str, int, Members]]:
    """Studies in the order of their first files.

    Args:
        files: in order.
        data: the folder that they were found in.

    Returns:
        For each study its UID, or what stands for one, how many patients share that, and its
        series. The second patient under a UID is ``UID~2``.
    """
    folders = _patient_folders(files, data)
    by_uid: dict[str, list[Found]] = defaultdict(list)
    for one in files:
        by_uid[one.header.study_uid].append(one)
    named: dict[str, list[Members]] = defaultdict(list)
    for uid, of_uid in by_uid.items():
        split = _split_patients if uid else _split_folders
        for of_study in split(of_uid, folders):
            name = uid or without_uid(relative(_common_folder(of_study), data))
            named[name].append(_series(of_study, data))
    return [
        (name if number == 1 else f"{name}~{number}", len(sharing), members)
        for name, sharing in named.items()
        for number, members in enumerate(sharing, start=1)
    ]


def _common_folder(files: Iterable[Found]) -> Path:
    return Path(os.path.commonpath({one.path.parent for one in files}))


def _patient_folders(files: Iterable[Found], data: Path) -> dict[Path, Path]:
    """Folder of files -> the patient's."""
    series: dict[Path, set[Hashable]] = defaultdict(set)
    for one in files:
        series[one.path.parent].add(one.header.series_uid or _kind(one))
    return {
        folder: folder.parent if len(of_folder) == 1 and folder != data else folder
        for folder, of_folder in series.items()
    }


def _kind(one: Found) -> Hashable:
    """What tells series apart where no UID does."""
    header = one.header
    how = header.acquisitions[0]
    plane = plane_of(header.orientation) if header.orientation else None
    return plane, how.echo_ms, how.description, header.rows, header.columns


def _split_patients(files: Sequence[Found], folders: Mapping[Path, Path]) -> list[list[Found]]:
    """Files under one StudyInstanceUID, patient by patient."""
    patients = dict.fromkeys(one.header.patient for one in files if one.header.patient)
    if len(patients) > 1:
        return _with_owners(files, list(patients), folders)
    if patients:
        return [list(files)]
    return _connected(files, lambda one: folders[one.path.parent])


def _with_owners(
    files: Sequence[Found], patients: Sequence[str], folders: Mapping[Path, Path]
) -> list[list[Found]]:
    """By PatientID; a file without one goes with those of its series, folder or frame."""
    owner: dict[Hashable, str] = {}
    for one in files:
        if one.header.patient:
            for sign in _signs(one, folders):
                owner.setdefault(sign, one.header.patient)
    of_patient: dict[str, list[Found]] = {patient: [] for patient in patients}
    for one in files:
        known = (owner[sign] for sign in _signs(one, folders) if sign in owner)
        of_patient.setdefault(one.header.patient or next(known, ""), []).append(one)
    return list(of_patient.values())


def _signs(one: Found, folders: Mapping[Path, Path]) -> list[Hashable]:
    header = one.header
    told = [("series", header.series_uid), ("frame", header.frame_of_reference_uid)]
    return [*((what, uid) for what, uid in told if uid), ("folder", folders[one.path.parent])]


def _split_folders(files: Sequence[Found], folders: Mapping[Path, Path]) -> list[list[Found]]:
    """Files without a StudyInstanceUID: by the patient's folder, then as far as it is one's."""
    by_folder: dict[Path, list[Found]] = defaultdict(list)
    for one in files:
        by_folder[folders[one.path.parent]].append(one)
    return [study for of_folder in by_folder.values() for study in _split_inside(of_folder)]


def _split_inside(files: Sequence[Found]) -> list[list[Found]]:
    """The same, where folders of series stand for those of patients."""
    patients = dict.fromkeys(one.header.patient for one in files if one.header.patient)
    if len(patients) > 1:
        own = {one.path.parent: one.path.parent for one in files}
        return _with_owners(files, list(patients), own)
    folders = {one.path.parent for one in files}
    kinds = {(one.path.parent, _kind(one)) for one in files}
    if len({kind for _, kind in kinds}) < len(folders) and not _framed(files):
        return _grouped(files, lambda one: one.path.parent)  # each shows what the others do
    return _connected(files, lambda one: one.path.parent)


def _connected(files: Sequence[Found], folder_of: Callable[[Found], Path]) -> list[list[Found]]:
    """Groups of files of which no two share a folder or a FrameOfReferenceUID.

    One group where some have no FrameOfReferenceUID: then nothing says that they disagree.
    """
    if not _framed(files):
        return [list(files)]
    root: dict[Hashable, Hashable] = {}

    def top(node: Hashable) -> Hashable:
        while (above := root.setdefault(node, node)) != node:
            node = above
        return node

    for one in files:
        root[top(folder_of(one))] = top(one.header.frame_of_reference_uid)
    return _grouped(files, lambda one: top(folder_of(one)))


def _framed(files: Iterable[Found]) -> bool:
    return all(one.header.frame_of_reference_uid for one in files)


def _grouped(files: Iterable[Found], key: Callable[[Found], Hashable]) -> list[list[Found]]:
    groups: dict[Hashable, list[Found]] = defaultdict(list)
    for one in files:
        groups[key(one)].append(one)
    return list(groups.values())


def _series(files: Iterable[Found], data: Path) -> Members:
    members: Members = defaultdict(list)
    for one in files:
        folder = without_uid(relative(one.path.parent, data))
        members[one.header.series_uid or folder].append(one)
    return _joined(members)


def _joined(members: Members) -> Members:
    """Series of one file each that are alike become one, under the first of their UIDs."""
    alike: dict[Hashable, list[str]] = defaultdict(list)
    for key, files in members.items():
        if len(files) == 1 and files[0].header.frames == 1:
            header = files[0].header
            alike[header.acquisitions, header.orientation, header.rows, header.columns].append(key)
    joined = dict(members)
    for keys in alike.values():
        if len(keys) >= LEAST_ALIKE:
            first = min(keys, key=natural_key)
            joined[first] = [one for key in keys for one in joined.pop(key)]
    return joined
