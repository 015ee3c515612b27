"""Files of a tree -> studies; decides which patient a file belongs to if UIDs do not say.

- Files with the same StudyInstanceUID belong to several patients if their PatientIDs differ; if
  these are blank, if neither the patient's folder nor the FrameOfReferenceUID is shared.
- Without a StudyInstanceUID the patient's folder is the study, unless its folders contradict
  one another by their FrameOfReferenceUIDs.
- Files that each have their own SeriesInstanceUID, and are otherwise alike, are one series.

The **patient's folder** is the one that contains the folders of series. A folder of files of one
series belongs to the series, together with the folders above it that contain nothing else
(``scans/1/DICOM``); a folder of files of several series is the patient's.
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

# least number of files, each with its own series UID, that are joined into one series
LEAST_ALIKE = 3

T = TypeVar("T")
Members = dict[str, list[Found]]  # key of a series -> its files


def studies_of(files: Sequence[Found], data: Path) -> list[tuple[str, int, Members]]:
    """Studies in the order of their first files, which were found below ``data``.

    Returns:
        For each study its UID or a replacement, the number of patients that share it, and its
        series. The second patient with the same UID is ``UID~2``.
    """
    folders = _patient_folders(files, data)
    by_uid: dict[str, list[Found]] = defaultdict(list)
    for one in files:
        by_uid[one.header.study_uid].append(one)
    named: dict[str, list[Members]] = defaultdict(list)
    for uid, of_uid in by_uid.items():
        split = _split_patients if uid else _split_folders
        for of_study in split(of_uid, folders):
            folder = os.path.commonpath({one.path.parent for one in of_study})
            name = uid or without_uid(relative(Path(folder), data))
            named[name].append(_series(of_study, data))
    return [
        (name if number == 1 else f"{name}~{number}", len(sharing), members)
        for name, sharing in named.items()
        for number, members in enumerate(sharing, start=1)
    ]


def _patient_folders(files: Iterable[Found], data: Path) -> dict[Path, Path]:
    """Folder of files -> the patient's folder."""
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
            folder = folder.parent  # the parent contains nothing else
        return folder.parent

    return {folder: patients(folder) for folder in series}


def _kind(one: Found) -> Hashable:
    """What distinguishes series without a UID."""
    header = one.header
    how = header.acquisitions[0]
    plane = plane_of(header.orientation) if header.orientation else None
    return plane, how.echo_ms, how.description, header.rows, header.columns


def _split_patients(files: Sequence[Found], folders: Mapping[Path, Path]) -> list[list[Found]]:
    """Files with the same StudyInstanceUID, split by patient."""
    patients = dict.fromkeys(one.header.patient for one in files if one.header.patient)
    if len(patients) > 1:
        return _with_owners(files, list(patients), folders)
    if patients:
        return [list(files)]
    return _connected(files, lambda one: folders[one.path.parent])


def _with_owners(
    files: Sequence[Found], patients: Sequence[str], folders: Mapping[Path, Path]
) -> list[list[Found]]:
    """Split by PatientID; a file without one joins its series, folder or frame of reference."""
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
    """Split files without a StudyInstanceUID by the patient's folder, if it is a single patient's.

    Folders whose files all share a FrameOfReferenceUID belong to one patient, and so does a folder
    inside the patient's folder if both name the same patient.
    """
    by_folder = _grouped(files, lambda one: folders[one.path.parent])
    split = [study for of_folder in by_folder for study in _split_inside(of_folder)]
    return _joined_studies(split, folders)


def _split_inside(files: Sequence[Found]) -> list[list[Found]]:
    """The same split, with folders of series in place of patients' folders."""
    patients = dict.fromkeys(one.header.patient for one in files if one.header.patient)
    if len(patients) > 1:
        own = {one.path.parent: one.path.parent for one in files}
        return _with_owners(files, list(patients), own)
    folders = {one.path.parent for one in files}
    kinds = {(one.path.parent, _kind(one)) for one in files}
    if len({kind for _, kind in kinds}) < len(folders) and not _framed(files):
        # the folders repeat kinds of series: each is a study
        return _grouped(files, lambda one: one.path.parent)
    return _connected(files, lambda one: one.path.parent)


def _joined_studies(
    studies: Sequence[list[Found]], folders: Mapping[Path, Path]
) -> list[list[Found]]:
    """Join groups that share a FrameOfReferenceUID, or a patient whose folders are nested."""
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
    """Groups of files such that no two groups share a folder or a FrameOfReferenceUID.

    If some files have no FrameOfReferenceUID there is only one group, because nothing says that the
    files disagree.
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
        """Connect two things; does nothing if the second is empty."""
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
    """Join series of one file each that are alike, under the first of their UIDs."""
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
