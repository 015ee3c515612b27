"""One DICOM file -> its frames: as stored, or as the square slices that a detector sees.

pydicom parses; pylibjpeg's plugins decode what is compressed, because they are the fastest of
the safe ones and one family covers RLE, JPEG, JPEG-LS and JPEG 2000.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array

from rsna_lumbar.runtime.headers import (
    Geometry,
    frame_geometry,
    instance_number,
    open_dicom,
    pixel_spacing_mm,
    require_mr_image,
    shows_high_values_dark,
)
from rsna_lumbar.runtime.preprocess import PixelArray, Preprocessing, square_slice
from rsna_lumbar.runtime.reasons import Reason, SkipFile

MAX_PIXELS = 2**28  # the largest declared size that is decoded: 1,024 frames of 512 x 512


@dataclass(frozen=True, slots=True)
class Frame:
    """One stored frame: (rows, columns) integers and what its header says of it."""

    pixels: PixelArray
    inverted: bool  # larger values mean darker
    geometry: Geometry | None
    spacing_mm: tuple[float, float] | None  # between rows, between columns
    instance_number: int | None


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame as a detector sees it: (size_px, size_px) uint8, and where it came from."""

    image: NDArray[np.uint8]
    file: Path
    frame: int
    rows: int
    columns: int
    geometry: Geometry | None
    spacing_mm: tuple[float, float] | None  # between rows, between columns, as stored
    instance_number: int | None


def read_frames(path: Path) -> list[Frame]:
    """Decode every frame of a file, pixels as stored (no rescale, no window).

    Raises:
        SkipFile: with the reason, where the file is no usable MR image.
    """
    with open_dicom(path) as dataset:
        require_mr_image(dataset)
        pixels = _decode(dataset)
        inverted = shows_high_values_dark(dataset)
        number = instance_number(dataset)
        return [
            Frame(
                pixels=image,
                inverted=inverted,
                geometry=frame_geometry(dataset, index),
                spacing_mm=pixel_spacing_mm(dataset, index),
                instance_number=number,
            )
            for index, image in enumerate(pixels)
        ]


def read_slices(path: Path, size_px: int, preprocessing: Preprocessing) -> list[Slice]:
    """Decode a file into square slices, one a frame.

    Raises:
        SkipFile: with the reason, where the file is no usable MR image.
    """
    return [
        Slice(
            image=square_slice(frame.pixels, size_px, preprocessing, inverted=frame.inverted),
            file=path,
            frame=index,
            rows=frame.pixels.shape[0],
            columns=frame.pixels.shape[1],
            geometry=frame.geometry,
            spacing_mm=frame.spacing_mm,
            instance_number=frame.instance_number,
        )
        for index, frame in enumerate(read_frames(path))
    ]


def _decode(dataset: FileDataset) -> PixelArray:
    """(frames, rows, columns) integers of 8 or 16 bits."""
    if "PixelData" not in dataset:
        raise SkipFile(Reason.NO_PIXELS)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    try:
        get_decoder(syntax)
    except NotImplementedError as error:
        raise SkipFile(Reason.UNKNOWN_TRANSFER_SYNTAX, str(syntax)) from error
    _check_size(dataset)
    try:
        pixels = pixel_array(
            dataset, raw=True, decoding_plugin="pylibjpeg" if syntax.is_encapsulated else ""
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pylibjpeg-rle's PanicException is no Exception
        raise SkipFile(Reason.BAD_PIXELS, "damaged or cut short") from error
    return pixels.reshape(-1, *pixels.shape[-2:])


def _check_size(dataset: FileDataset) -> None:
    try:
        samples = int(dataset.get("SamplesPerPixel", 1))
        bits = int(dataset.BitsAllocated)
        count = int(dataset.get("NumberOfFrames") or 1) * int(dataset.Rows) * int(dataset.Columns)
    except (AttributeError, TypeError, ValueError) as error:
        raise SkipFile(Reason.BAD_PIXELS, "Rows, Columns or BitsAllocated missing") from error
    if samples != 1:
        raise SkipFile(Reason.NOT_GREY, f"SamplesPerPixel {samples}")
    if bits not in (8, 16):
        raise SkipFile(Reason.BAD_PIXELS, f"BitsAllocated {bits}")
    if not 0 < count <= MAX_PIXELS:
        raise SkipFile(Reason.TOO_LARGE if count > 0 else Reason.BAD_PIXELS, f"{count} pixels")
