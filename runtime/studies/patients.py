"""Files of a tree -> studies: whose they are, where UIDs alone do not say it.

- Files under one StudyInstanceUID are of several patients where their PatientIDs disagree; where
  these are blank, where neither the patient's folder nor the FrameOfReferenceUID is shared.
- Without a StudyInstanceUID the patient's folder is the study, as far as its folders do not
  contradict one another by their FrameOfReferenceUIDs.
- Files that each have a SeriesInstanceUID of their own, and are alike, are one series.

The **patient's folder** is the one that holds the folders of series: a folder of files of one
series is the series', with those above that hold nothing else (``scans/1/DICOM``); one of several
series is the patient's.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rsna_lumbar.runtime.dicom.series_kind import plane_of
from rsna_lumbar.runtime.studies.series_parts import Found
from rsna_lumbar.runtime.studies.study import natural_key, relative, without_uid

LEAST_ALIKE = 3  # files, each of a series of its own, that are one series

T = TypeVar("T")
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
    below = Counter(
        above for folder in series for above in (folder, *folder.parents) if above != data
    )

    def patients(folder: Path) -> Path:
        if len(series[folder]) > 1 or folder == data:
            return folder
        while folder.parent != data and below[folder.parent] == below[folder]:
            folder = folder.parent  # that holds nothing but it
        return folder.parent

    return {folder: patients(folder) for folder in series}


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
    """Files without a StudyInstanceUID: by the patient's folder, as far as it is one's.

    Folders of which all files share a FrameOfReferenceUID are one patient's, and so is a folder
    inside the patient's where both name the same patient.
    """
    by_folder = _grouped(files, lambda one: folders[one.path.parent])
    split = [study for of_folder in by_folder for study in _split_inside(of_folder)]
    return _joined_studies(split, folders)


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


def _joined_studies(
    studies: Sequence[list[Found]], folders: Mapping[Path, Path]
) -> list[list[Found]]:
    """Groups that share a FrameOfReferenceUID, or a patient in a folder inside the other's."""
    root = _Roots()
    owned = {(one.header.patient, folders[one.path.parent]) for of in studies for one in of}
    for index, study in enumerate(studies):
        for one in study:
            patient, frame = one.header.patient, one.header.frame_of_reference_uid
            root.join(index, frame and ("frame", frame))
            outside = (patient, folders[one.path.parent].parent)
            if patient and not frame:
                root.join(index, (patient, folders[one.path.parent]))
                root.join(index, outside in owned and outside)
    found = _grouped(range(len(studies)), root.of)
    return [[one for index in group for one in studies[index]] for group in found]


def _connected(files: Sequence[Found], folder_of: Callable[[Found], Path]) -> list[list[Found]]:
    """Groups of files of which no two share a folder or a FrameOfReferenceUID.

    One group where some have no FrameOfReferenceUID: then nothing says that they disagree.
    """
    if not _framed(files):
        return [list(files)]
    root = _Roots()
    for one in files:
        root.join(folder_of(one), one.header.frame_of_reference_uid)
    return _grouped(files, lambda one: root.of(folder_of(one)))


class _Roots:
    """Which things are connected (union-find)."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def of(self, node: Hashable) -> Hashable:
        top = node
        while (above := self._above.setdefault(top, top)) != top:
            top = above
        while node != top:
            self._above[node], node = top, self._above[node]
        return top

    def join(self, one: Hashable, other: Hashable) -> None:
        """Connect two; nothing where the other says nothing."""
        if other:
            self._above[self.of(one)] = self.of(other)


def _framed(files: Iterable[Found]) -> bool:
    return all(one.header.frame_of_reference_uid for one in files)


def _grouped(things: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for one in things:
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
