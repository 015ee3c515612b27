"""A root in the challenge's layout, small and made by hand: tables and DICOM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

from rsna_lumbar.runtime.core.labels import GROUPS, LOCATIONS, condition_title, level_title

ROWS, COLUMNS, SIZE_PX = 48, 64, 32
STUDIES = ("11", "12", "13", "14")
SERIES_OF = {"Sagittal T2/STIR": "1", "Sagittal T1": "2", "Axial T2": "3"}


def write_dicom(path: Path, pixels: np.ndarray) -> None:
    """A slice with the elements of the challenge's files (tests/data), named by its folders.

    They say MR in the file meta information only. Stored as it is, not RLE.
    """
    study, series, instance = path.parts[-3], path.parts[-2], path.stem
    axial = series.endswith(SERIES_OF["Axial T2"])
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    meta.MediaStorageSOPInstanceUID = f"{study}.1.{instance}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = "1.2.3", "TEST"
    fields = {
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "ContentDate": "20240503",
        "ContentTime": "120000.000001",
        "SeriesDescription": "T1" if series.endswith(SERIES_OF["Sagittal T1"]) else "T2",
        "PatientID": study,
        "SliceThickness": "4",
        "SpacingBetweenSlices": "4.4",
        "PatientPosition": "HFS",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.{series}",
        "InstanceNumber": instance,
        "ImagePositionPatient": ["0", "0", instance] if axial else [instance, "0", "0"],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0] if axial else [0, 1, 0, 0, 0, -1],
        "FrameOfReferenceUID": f"1.2.3.{study}",
        "SliceLocation": instance,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "PixelSpacing": ["0.5", "0.5"],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "WindowCenter": "2048",
        "WindowWidth": "4096",
        "PixelData": pixels.astype("<u2").tobytes(),
    }
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in fields.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=False)


def pixels_of(study: str, series: str, instance: int) -> np.ndarray:
    rng = np.random.default_rng([int(study), int(series), instance])
    return rng.integers(0, 4096, (ROWS, COLUMNS))


def write_root(root: Path) -> Path:
    """Four studies; every label has a point at column 20, row 10 of instance 5 of its series."""
    root.mkdir(exist_ok=True)
    header = ",".join(["study_id", *("_".join(location) for location in LOCATIONS)])
    grades = ["Normal/Mild", "Moderate", "Severe", "Normal/Mild"]
    labels = [
        ",".join([study, *[grade] * 25]) for study, grade in zip(STUDIES, grades, strict=True)
    ]
    points, series = [], []
    for study in STUDIES:
        for group in GROUPS:
            number = study + SERIES_OF[group.series_kind]
            series.append(f"{study},{number},{group.series_kind}")
            for instance in (5, 60):  # 60 carries no label
                path = root / "train_images" / study / number / f"{instance}.dcm"
                write_dicom(path, pixels_of(study, number, instance))
            points += [
                f"{study},{number},5,{condition_title(condition)},{level_title(level)},20,10"
                for condition, level in group.locations
            ]
    tables = {
        "train.csv": [header, *labels],
        "train_label_coordinates.csv": [
            "study_id,series_id,instance_number,condition,level,x,y",
            *points,
        ],
        "train_series_descriptions.csv": ["study_id,series_id,series_description", *series],
    }
    for name, lines in tables.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return root


def contents(folder: Path) -> dict[str, bytes]:
    """Files below a folder by name, and folders, whose names end in a slash."""
    return {
        f"{path.relative_to(folder).as_posix()}{'/' * path.is_dir()}": (
            b"" if path.is_dir() else path.read_bytes()
        )
        for path in folder.rglob("*")
    }
