"""One DICOM file -> its frames, as stored or as squares."""

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

LEAST_ZERO_TAIL = 1 / 32  # share of the rows: some scanners leave a few rows empty
# A masked picture has a rounded end; a cut one ends as wide as the rest.
LEAST_WIDTH_AT_END = 0.5


@dataclass(frozen=True, slots=True)
class Frame:
    """One stored frame: (rows, columns) integers, possibly read-only, and facts from the header.

    Pixels without a header have the defaults: they are not turned, and larger values are brighter.
    """

    pixels: PixelArray
    inverted: bool = False  # larger values mean darker
    geometry: Geometry | None = None
    spacing_mm: tuple[float, float] | None = None  # between rows, between columns
    instance_number: int | None = None
    instance_uid: str = ""  # SOPInstanceUID, the same for all frames of a file; may be empty
    decoded_by: str = "array"  # transfer syntax and decoder
    turn: Turn | None = None  # turns it upright; None if the header has no orientation
    padding: Padding | None = None  # stored values that are not image

    def square(self, size_px: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The frame as a detector sees it, (size_px, size_px) uint8."""
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
    """One frame as a detector sees it, (size_px, size_px) uint8, and its origin.

    Rows, columns, geometry and spacing are those of the file; ``placement`` maps the file's pixels
    to pixels of the square and back.
    """

    image: NDArray[np.uint8]
    file: Path
    frame: int
    rows: int
    columns: int
    geometry: Geometry | None
    spacing_mm: tuple[float, float] | None  # between rows, between columns, as stored
    instance_number: int | None
    instance_uid: str = ""  # SOPInstanceUID, the same for all frames of a file
    decoded_by: str = ""  # transfer syntax and decoder
    doubt: str = ""  # why it may be faulty; empty if it is not doubted
    # the turn that made it upright; None if the header has no orientation
    turn: Turn | None = AS_STORED

    @property
    def placement(self) -> Placement:
        """Position of the file's pixels in the square."""
        return Placement(self.rows, self.columns, len(self.image), self.turn or AS_STORED)


def read_frames(path: Path) -> list[Frame]:
    """Decode every frame of a file, pixels as stored (no rescale, no window).

    Raises:
        SkipFile: the file is not a usable MR image; the exception gives the reason.
    """
    with open_dicom(path) as dataset:
        return frames_of(dataset)


def frames_of(dataset: FileDataset) -> list[Frame]:
    """Every frame of a parsed file; raises SkipFile like :func:`read_frames`."""
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


def read_slices(path: Path, size_px: int, preprocessing: Preprocessing) -> list[Slice]:
    """Decode a file into squares, one per frame; raises SkipFile like :func:`read_frames`."""
    return slices_of(read_frames(path), path, size_px, preprocessing)


def slices_of(
    frames: Sequence[Frame], path: Path, size_px: int, preprocessing: Preprocessing
) -> list[Slice]:
    """The frames of one file, named ``path``, as squares of size_px per side."""
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
    """Doubt about pixels (rows, columns) that look half copied: zeros below a blunt edge."""
    if pixels[-1].any():
        return ""
    widths = np.count_nonzero(pixels, axis=1)
    last = len(pixels) - 1 - int(np.argmax(widths[::-1] > 0))  # the cut is in this row
    zeros = len(pixels) - 1 - last
    at_end = widths[max(last - 1, 0)]
    if zeros <= LEAST_ZERO_TAIL * len(pixels) or at_end < LEAST_WIDTH_AT_END * widths.max():
        return ""
    return f"zeros from row {last + 1} of {len(pixels)} on" if widths.any() else ""
