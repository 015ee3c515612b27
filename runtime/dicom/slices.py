"""One DICOM file -> its frames: as stored, or as the square slices that a detector sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from rsna_lumbar.runtime.core.preprocess import (
    Padding,
    PixelArray,
    Placement,
    Preprocessing,
    square_slice,
)
from rsna_lumbar.runtime.core.turning import AS_STORED, Turn
from rsna_lumbar.runtime.dicom.dataset import open_dicom
from rsna_lumbar.runtime.dicom.header import (
    Geometry,
    frame_geometry,
    frame_orientation,
    instance_number,
    instance_uid,
    pixel_spacing_mm,
    require_mr_image,
    shows_high_values_dark,
)
from rsna_lumbar.runtime.dicom.padding import declared_padding
from rsna_lumbar.runtime.dicom.pixels import stored_pixels
from rsna_lumbar.runtime.dicom.standing import standing

LEAST_ZERO_TAIL = 1 / 32  # of the rows: some scanners leave a few empty
# What is masked has a rounded end, what was cut off an end as wide as the rest.
LEAST_WIDTH_AT_END = 0.5


@dataclass(frozen=True, slots=True)
class Frame:
    """One stored frame: (rows, columns) integers, maybe read-only, and what the header says."""

    pixels: PixelArray
    inverted: bool  # larger values mean darker
    geometry: Geometry | None
    spacing_mm: tuple[float, float] | None  # between rows, between columns
    instance_number: int | None
    instance_uid: str  # SOPInstanceUID, shared by the frames of a file; may be empty
    decoded_by: str  # transfer syntax and decoder
    turn: Turn | None  # that makes it upright; None where the header has no orientation
    padding: Padding | None  # stored values that are no image

    def square(self, size_px: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """What a detector sees of it, (size_px, size_px) uint8."""
        return square_slice(
            self.pixels,
            size_px,
            preprocessing,
            inverted=self.inverted,
            padding=self.padding,
            turn=self.turn or AS_STORED,
        )


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame as a detector sees it: (size_px, size_px) uint8, and where it came from.

    Rows, columns, geometry and spacing are those of the file; ``placement`` is the way between its
    pixels and those of the image.
    """

    image: NDArray[np.uint8]
    file: Path
    frame: int
    rows: int
    columns: int
    geometry: Geometry | None
    spacing_mm: tuple[float, float] | None  # between rows, between columns, as stored
    instance_number: int | None
    instance_uid: str = ""  # SOPInstanceUID, shared by the frames of a file
    decoded_by: str = ""  # transfer syntax and decoder
    doubt: str = ""  # why it may not be what it should be
    turn: Turn | None = AS_STORED  # that made it upright; None where the header did not say

    @property
    def placement(self) -> Placement:
        """Where the file's pixels lie in the image."""
        return Placement(self.rows, self.columns, len(self.image), self.turn or AS_STORED)


def read_frames(path: Path) -> list[Frame]:
    """Decode every frame of a file, pixels as stored (no rescale, no window).

    Raises:
        SkipFile: with the reason, where the file is no usable MR image.
    """
    with open_dicom(path) as dataset:
        return frames_of(dataset)


def frames_of(dataset: FileDataset) -> list[Frame]:
    """Every frame of a parsed file, as :func:`read_frames` gives it.

    Raises:
        SkipFile: with the reason, where it is no usable MR image.
    """
    require_mr_image(dataset)
    stored = stored_pixels(dataset)
    inverted = shows_high_values_dark(dataset)
    padding = declared_padding(dataset, stored.frames)
    number = instance_number(dataset)
    uid = instance_uid(dataset)
    return [
        Frame(
            pixels=image,
            inverted=inverted,
            geometry=geometry,
            spacing_mm=pixel_spacing_mm(dataset, index),
            instance_number=number,
            instance_uid=uid,
            decoded_by=stored.decoded_by,
            turn=standing(geometry.orientation if geometry else frame_orientation(dataset, index)),
            padding=padding,
        )
        for index, image in enumerate(stored.frames)
        for geometry in [frame_geometry(dataset, index)]
    ]


def frame_of_array(pixels: PixelArray) -> Frame:
    """Pixels without a header: they stand as they are, and larger values are brighter.

    Args:
        pixels: (rows, columns) integers.
    """
    return Frame(
        pixels=pixels,
        inverted=False,
        geometry=None,
        spacing_mm=None,
        instance_number=None,
        instance_uid="",
        decoded_by="array",
        turn=None,
        padding=None,
    )


def read_slices(path: Path, size_px: int, preprocessing: Preprocessing) -> list[Slice]:
    """Decode a file into square slices, one a frame.

    Raises:
        SkipFile: with the reason, where the file is no usable MR image.
    """
    return slices_of(read_frames(path), path, size_px, preprocessing)


def slices_of(
    frames: Sequence[Frame], path: Path, size_px: int, preprocessing: Preprocessing
) -> list[Slice]:
    """Frames as square slices.

    Args:
        frames: of one file.
        path: how the file is called.
        size_px: side of the squares.
        preprocessing: as the detector expects it.
    """
    return [
        Slice(
            image=frame.square(size_px, preprocessing),
            file=path,
            frame=index,
            rows=frame.pixels.shape[0],
            columns=frame.pixels.shape[1],
            geometry=frame.geometry,
            spacing_mm=frame.spacing_mm,
            instance_number=frame.instance_number,
            instance_uid=frame.instance_uid,
            decoded_by=frame.decoded_by,
            doubt=doubt_of(frame.pixels),
            turn=frame.turn,
        )
        for index, frame in enumerate(frames)
    ]


def doubt_of(pixels: PixelArray) -> str:
    """What a frame that was only half copied looks like: zeros at its end, and a blunt edge above.

    Args:
        pixels: (rows, columns) as stored.
    """
    if pixels[-1].any():
        return ""
    widths = np.count_nonzero(pixels, axis=1)
    last = len(pixels) - 1 - int(np.argmax(widths[::-1] > 0))  # the cut lies within it
    zeros = len(pixels) - 1 - last
    at_end = widths[max(last - 1, 0)]
    if zeros <= LEAST_ZERO_TAIL * len(pixels) or at_end < LEAST_WIDTH_AT_END * widths.max():
        return ""
    return f"zeros from row {last + 1} of {len(pixels)} on" if widths.any() else ""
