"""Write one slice with the elements of the challenge's files, in data set and file meta.

RLE Lossless, 12 of 16 bits, ids that are not valid UIDs. Only the file meta information says that
it is MR: Enhanced MR, although each file has one frame and its geometry at the top level. The data
set has no class, modality, image type, body part or times. Instance UIDs repeat between the series
of a study.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, RLELossless

from rsna_lumbar.train.phantom.acquisition import Series, Slice
from rsna_lumbar.train.phantom.clinical_header import Clinical, describe_clinically, draw_clinical
from rsna_lumbar.train.phantom.scanner import STORED_BITS

# Fixed, because pydicom's own would change the bytes with its version. 2.25 is the root of UIDs
# made from a UUID (PS3.5 B.2).
_IMPLEMENTATION_UID = UID("2.25.80302813137786398554742050926734630921")
_IMPLEMENTATION_NAME = "RSNA_LUMBAR_1"
_PYDICOM_ROOT = "1.2.826.0.1.3680043.8.498"  # root of the challenge's frames of reference
_SLICE_THICKNESS = 0.9  # as a share of the gap between slices


@dataclass(frozen=True, slots=True)
class Header:
    """The part of the header that a study's files share, without geometry."""

    study_id: int
    frame_of_reference: str
    content_date: str
    content_time: str
    rescaled: bool = False  # with RescaleIntercept and RescaleSlope
    described: bool = True  # SeriesDescription says T1 or T2
    clinical: Clinical | None = None  # for a clinical header


def draw_header(rng: np.random.Generator, study_id: int, quirks: frozenset[str]) -> Header:
    """The header of a study with the given quirks. Its date is random, not that of a clock."""
    day, second = int(rng.integers(1, 29)), int(rng.integers(24 * 3600))
    return Header(
        study_id=study_id,
        frame_of_reference=f"{_PYDICOM_ROOT}.{rng.integers(10**17, 10**18)}",
        content_date=f"2024{rng.integers(1, 13):02}{day:02}",
        content_time=f"{second // 3600:02}{second // 60 % 60:02}{second % 60:02}"
        f".{rng.integers(10**6):06}",
        rescaled="rescale-tags" in quirks,
        described="empty-description" not in quirks,
        clinical=draw_clinical(rng) if "clinical-header" in quirks else None,
    )


def write_slice(
    path: Path, pixels: npt.NDArray[np.uint16], header: Header, series: Series, one: Slice
) -> None:
    """Write ``pixels`` (rows, columns) to ``path``; the folder must exist."""
    dataset = Dataset()
    _describe(dataset, header, series, one)
    _place(dataset, header, series, one)
    if header.clinical is not None:
        describe_clinically(dataset, header.clinical, series)
    if header.rescaled:
        dataset.RescaleIntercept, dataset.RescaleSlope = "0", "1"
    _store(dataset, pixels)
    dataset.preamble = bytes(128)
    # Enforcing would add the length of the file meta, which the challenge's files lack.
    dataset.save_as(path, enforce_file_format=header.clinical is not None)


def _describe(dataset: Dataset, header: Header, series: Series, one: Slice) -> None:
    study = str(header.study_id)
    dataset.SOPInstanceUID = f"{study}.1.{one.instance}"
    dataset.ContentDate, dataset.ContentTime = header.content_date, header.content_time
    dataset.SeriesDescription = series.weighting.upper() if header.described else ""
    dataset.PatientID = study
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = f"{study}.{series.series_id}"
    dataset.InstanceNumber = one.instance


def _place(dataset: Dataset, header: Header, series: Series, one: Slice) -> None:
    """Image Plane module (PS3.3 C.7.6.2), in strings of at most 16 characters."""
    plane = one.plane
    directions = [*plane.along_row, *plane.along_column]
    dataset.SliceThickness = _decimal(series.gap_mm * _SLICE_THICKNESS, 3)
    dataset.SpacingBetweenSlices = _decimal(series.gap_mm, 6)
    dataset.ImagePositionPatient = [_decimal(value, 6) for value in plane.origin_mm]
    dataset.ImageOrientationPatient = [_decimal(value, 9) for value in directions]
    dataset.FrameOfReferenceUID = header.frame_of_reference
    # Of the first pixel along the normal, in its direction nearest to left, back or up.
    largest = plane.normal[np.argmax(np.abs(plane.normal))]
    dataset.SliceLocation = _decimal(plane.origin_mm @ plane.normal * np.sign(largest), 6)
    dataset.PixelSpacing = [_decimal(plane.spacing_mm, 9)] * 2


def _decimal(value: float, digits: int) -> str:
    """Without an exponent and trailing zeros: -0.00001234, 4."""
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if float(text) == 0 else text


def _store(dataset: Dataset, pixels: npt.NDArray[np.uint16]) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, STORED_BITS, STORED_BITS - 1
    dataset.PixelRepresentation = 0
    # From the brightness of the slice: slices may have different windows.
    top = int(np.partition(pixels, -pixels.size // 50, axis=None)[-pixels.size // 50])
    dataset.WindowCenter, dataset.WindowWidth = str(max(1, top // 2)), str(max(2, top))
    meta = dataset.file_meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", EnhancedMRImageStorage)
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION_UID
    meta.ImplementationVersionName = _IMPLEMENTATION_NAME
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
