"""Writes one slice as the challenge's files are: RLE Lossless, 12 of 16 bits, invalid-looking ids.

The SOP class says Enhanced MR although there is one frame a file and the geometry stands at the
top level, as in the real files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, RLELossless

from rsna_lumbar.train.phantom.acquisition import Series, Slice
from rsna_lumbar.train.phantom.scanner import STORED_BITS

# A fixed implementation, for pydicom's own would change the bytes with its version. 2.25 is the
# root for UIDs made from a UUID (PS3.5 B.2).
_IMPLEMENTATION_UID = UID("2.25.80302813137786398554742050926734630921")
_IMPLEMENTATION_NAME = "RSNA_LUMBAR_1"
_SLICE_THICKNESS = 0.9  # of the gap between slices


@dataclass(frozen=True, slots=True)
class Timing:
    """Echo and repetition time of a series, milliseconds."""

    echo_ms: float
    repetition_ms: float


@dataclass(frozen=True, slots=True)
class Header:
    """What a study's files share, beyond their geometry."""

    study_id: int
    rescaled: bool  # RescaleSlope, RescaleIntercept present
    modality: bool  # Modality present


def draw_timing(rng: np.random.Generator, weighting: str) -> Timing:
    """Typical of a turbo spin echo of that weighting."""
    if weighting == "t1":
        return Timing(round(rng.uniform(8, 14), 2), round(rng.uniform(480, 720), 1))
    return Timing(round(rng.uniform(92, 118), 2), round(rng.uniform(2900, 4300), 1))


def write_slice(
    path: Path,
    pixels: npt.NDArray[np.uint16],
    header: Header,
    series: Series,
    one: Slice,
    timing: Timing,
) -> None:
    """Writes ``pixels`` (rows, columns) to ``path``; the folder must exist."""
    dataset = Dataset()
    _describe(dataset, header, series, one, timing)
    _place(dataset, series, one)
    _store(dataset, pixels)
    if header.rescaled:
        dataset.RescaleIntercept, dataset.RescaleSlope = "0", "1"
        dataset.RescaleType = "US"
    dataset.save_as(path, enforce_file_format=True)


def _describe(dataset: Dataset, header: Header, series: Series, one: Slice, timing: Timing) -> None:
    study, number = str(header.study_id), str(series.series_id)
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.SOPInstanceUID = f"{study}.{number}.{one.instance}"
    if header.modality:
        dataset.Modality = "MR"
    dataset.SeriesDescription = series.kind
    dataset.PatientID = study
    dataset.RepetitionTime, dataset.EchoTime = timing.repetition_ms, timing.echo_ms
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = f"{study}.{number}"
    dataset.InstanceNumber = one.instance


def _place(dataset: Dataset, series: Series, one: Slice) -> None:
    """Image Plane module (PS3.3 C.7.6.2), in strings of at most 16 characters."""
    plane = one.plane
    directions = [*plane.along_row, *plane.along_column]
    dataset.SliceThickness = _decimal(series.gap_mm * _SLICE_THICKNESS, 3)
    dataset.SpacingBetweenSlices = _decimal(series.gap_mm, 6)
    dataset.ImagePositionPatient = [_decimal(value, 6) for value in plane.origin_mm]
    dataset.ImageOrientationPatient = [_decimal(value, 9) for value in directions]
    dataset.PixelSpacing = [_decimal(plane.spacing_mm, 9)] * 2


def _decimal(value: float, digits: int) -> str:
    return repr(round(float(value), digits) + 0.0) if abs(value) >= 1e-4 else _small(value, digits)


def _small(value: float, digits: int) -> str:
    """Without an exponent: -0.00001234 in at most 16 characters."""
    text = f"{value:.{digits}f}"
    return "0.0" if float(text) == 0 else text


def _store(dataset: Dataset, pixels: npt.NDArray[np.uint16]) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, STORED_BITS, STORED_BITS - 1
    dataset.PixelRepresentation = 0
    # Per slice, from its own brightness: no two slices need share a window.
    top = int(np.partition(pixels, -pixels.size // 50, axis=None)[-pixels.size // 50])
    dataset.WindowCenter, dataset.WindowWidth = str(max(1, top // 2)), str(max(2, top))
    dataset.file_meta = _file_meta(dataset)
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION_UID
    meta.ImplementationVersionName = _IMPLEMENTATION_NAME
    return meta
