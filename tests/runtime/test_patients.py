"""Whose files they are, where UIDs alone do not say it: from written files to studies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest
from toys import AXIAL, SAGITTAL, T1, T2, slice_pixels, write_clinical_slice

from rsna_lumbar.runtime.core.labels import GROUPS
from rsna_lumbar.runtime.core.reasons import Reason
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.runtime.studies.study import Inventory

KINDS = (("SE1", SAGITTAL, T2), ("SE2", SAGITTAL, T1), ("SE3", AXIAL, T2))


def write_patient(folder: Path, seed: int, *, flat: bool = False, **elements: object) -> None:
    """Three series of four slices; elements override, and ``{kind}`` in them is the series."""
    for kind, (name, orientation, times) in enumerate(KINDS):
        for number in range(4):
            along = [4 * number, 0, 0] if orientation is SAGITTAL else [0, 0, -4 * number]
            path = folder / (f"{name}-{number}" if flat else f"{name}/{number}")
            told = {
                "StudyInstanceUID": "1.2.3",
                "SeriesInstanceUID": f"1.2.3.{seed}.{kind}",
                "PatientID": f"P{seed}",
                "FrameOfReferenceUID": f"1.9.{seed}",
                "ImageOrientationPatient": orientation,
                "ImagePositionPatient": along,
                **times,
                **elements,
            }
            write_clinical_slice(path, slice_pixels(100 * seed + 10 * kind + number), **told)


def studies(found: Inventory) -> list[tuple[str, list[int]]]:
    """Id, and files by detector in the order of GROUPS."""
    return [
        (study.study_id, [sum(len(one.files) for one in study.of(group)) for group in GROUPS])
        for study in found.studies
    ]


def test_one_study_uid_over_two_patients(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_patient(tmp_path / f"p{seed}", seed)
    found = find_studies(tmp_path)
    assert studies(found) == [("1.2.3", [4, 4, 4]), ("1.2.3~2", [4, 4, 4])]
    folders = [study.series[0].files[0].parent.parent.name for study in found.studies]
    assert folders == ["p1", "p2"]
    assert [skip.reason for skip in found.skips] == [Reason.REGROUPED] * 2
    assert all(skip.harmless and "P1" not in skip.detail for skip in found.skips)


@pytest.mark.parametrize("other", ["p1", "P 1", " P1", "P^1"])
def test_one_patient_spelled_differently(tmp_path: Path, other: str) -> None:
    write_patient(tmp_path / "a", 1)
    write_patient(tmp_path / "b", 1, PatientID=other, SeriesInstanceUID="1.2.4")
    assert [name for name, _ in studies(find_studies(tmp_path))] == ["1.2.3"]


def test_one_patient_in_many_folders(tmp_path: Path) -> None:
    """A clinical disc: folders say nothing, one study."""
    for number, blank in enumerate((False, True)):
        write_patient(tmp_path / "disc", 1, PatientID="" if blank else "P1")
        for index, path in enumerate(sorted((tmp_path / "disc").rglob("*"))):
            if path.is_file():
                (tmp_path / f"DICOM{number}" / f"{index % 5:08X}").mkdir(
                    parents=True, exist_ok=True
                )
                shutil.move(path, tmp_path / f"DICOM{number}" / f"{index % 5:08X}" / f"{index:08X}")
        shutil.rmtree(tmp_path / "disc")
        assert studies(find_studies(tmp_path / f"DICOM{number}")) == [("1.2.3", [4, 4, 4])]


def test_blank_patients_are_told_by_folder_and_frame_together(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_patient(tmp_path / "both" / f"p{seed}", seed, PatientID="")
        write_patient(
            tmp_path / "folder" / f"p{seed}", seed, PatientID="", FrameOfReferenceUID="1.9"
        )
        write_patient(
            tmp_path / "unsaid" / f"p{seed}", seed, PatientID="", FrameOfReferenceUID=None
        )
    write_patient(tmp_path / "frame" / "p", 1, PatientID="")
    write_patient(tmp_path / "frame" / "p", 2, flat=True, PatientID="")
    assert [name for name, _ in studies(find_studies(tmp_path / "both"))] == ["1.2.3", "1.2.3~2"]
    for name in ("folder", "frame", "unsaid"):
        assert [one for one, _ in studies(find_studies(tmp_path / name))] == ["1.2.3"], name


def test_a_blank_id_goes_with_its_series_or_its_folder(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_patient(tmp_path / f"p{seed}", seed)
    write_clinical_slice(
        tmp_path / "p2" / "SE1" / "9",
        slice_pixels(999),
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.2.0",
        ImagePositionPatient=[16, 0, 0],
    )
    assert studies(find_studies(tmp_path)) == [("1.2.3", [4, 4, 4]), ("1.2.3~2", [5, 4, 4])]


@pytest.mark.parametrize("layout", ["series", "flat", "deep", "one patient"])
@pytest.mark.parametrize(
    "blank", [("StudyInstanceUID",), ("StudyInstanceUID", "SeriesInstanceUID")]
)
@pytest.mark.parametrize("framed", [True, False])
def test_without_a_study_uid_the_patients_folder_is_the_study(
    tmp_path: Path, layout: str, blank: tuple[str, ...], framed: bool
) -> None:
    elements = {keyword: "" for keyword in blank} | {"PatientID": "anon"}
    if not framed:
        elements["FrameOfReferenceUID"] = None
    for seed in (1, 2):
        folder = tmp_path / "data" / f"p{seed}" / ("study" if layout == "deep" else "")
        write_patient(folder, seed, flat=layout == "flat", **elements)
    data = tmp_path / "data" / ("p1" if layout == "one patient" else "")
    found = studies(find_studies(data))
    assert [counts for _, counts in found] == [[4, 4, 4]] * (1 if layout == "one patient" else 2)
    assert all(name.startswith("no-uid-") for name, _ in found)


@pytest.mark.parametrize("framed", [True, False])
def test_patients_of_one_series_each_are_not_taken_for_one(tmp_path: Path, framed: bool) -> None:
    """Folders that lie side by side, each with a T2 and nothing else."""
    for seed in (1, 2, 3):
        write_patient(
            tmp_path / f"p{seed}",
            seed,
            StudyInstanceUID="",
            PatientID="",
            FrameOfReferenceUID=f"1.9.{seed}" if framed else None,
        )
        for name in ("SE2", "SE3"):
            shutil.rmtree(tmp_path / f"p{seed}" / name)
    shutil.move(tmp_path / "p1" / "SE1", tmp_path / "one")
    shutil.move(tmp_path / "p2" / "SE1", tmp_path / "two")
    assert [counts for _, counts in studies(find_studies(tmp_path))] == [[4, 0, 0]] * 3


@pytest.mark.parametrize("study_uid", ["", "1.2.3"])
def test_folders_that_hold_nothing_but_one_folder(tmp_path: Path, study_uid: str) -> None:
    """As XNAT lays them out: SUBJECT/scans/1/DICOM."""
    for seed in (1, 2):
        write_patient(tmp_path / "raw", seed, StudyInstanceUID=study_uid, PatientID="")
        for kind, (name, *_) in enumerate(KINDS, start=1):
            there = tmp_path / "data" / f"p{seed}" / "scans" / str(kind) / "DICOM"
            there.parent.mkdir(parents=True)
            shutil.move(tmp_path / "raw" / name, there)
    found = studies(find_studies(tmp_path / "data"))
    assert [counts for _, counts in found] == [[4, 4, 4]] * 2


@pytest.mark.parametrize("framed", [True, False])
def test_two_series_in_a_folder_beside_folders_of_one(tmp_path: Path, framed: bool) -> None:
    """Without a StudyInstanceUID; one patient, or one frame of reference, is one study."""
    elements = {"StudyInstanceUID": "", "PatientID": "P1"}
    if not framed:
        elements["FrameOfReferenceUID"] = None  # type: ignore[assignment]
    write_patient(tmp_path / "p1", 1, **elements)
    for path in (tmp_path / "p1" / "SE2").iterdir():
        shutil.move(path, tmp_path / "p1" / "SE1" / f"T1-{path.name}")
    assert [counts for _, counts in studies(find_studies(tmp_path))] == [[4, 4, 4]]


def test_a_series_uid_for_every_file(tmp_path: Path) -> None:
    """As some anonymisers leave them: files that are alike are one series."""
    write_patient(tmp_path / "p1", 1)
    for number, path in enumerate(sorted((tmp_path / "p1").rglob("*"))):
        if path.is_file():
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID = f"1.5.{number}"
            dataset.save_as(path)
    (study,) = find_studies(tmp_path).studies
    assert sorted(len(one.files) for one in study.series) == [4, 4, 4]
    assert [skip.reason for skip in study.skips] == [Reason.REGROUPED]
