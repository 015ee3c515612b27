"""What decodes files, as a protocol, and its simplest form: in this process, when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom.slices import (
    Slice,
    frame_of_array,
    frames_of,
    read_slices,
    slices_of,
)

Decoded = list[Slice] | SkipFile
Image = FileDataset | NDArray[np.integer]


class Decoder(Protocol):
    """Decodes files that were asked for."""

    @property
    def ahead(self) -> int:
        """Files worth asking for before the first is needed."""

    def submit(self, file: Path, size_px: int) -> Callable[[], Decoded]:
        """Ask for a file's squares; what is returned waits for them."""


class DecodeHere:
    """Decodes in this process, when the answer is asked for."""

    ahead = 0

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def submit(self, file: Path, size_px: int) -> Callable[[], Decoded]:
        return partial(try_slices, file, size_px, self._preprocessing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """There is nothing to end."""


class DecodeInMemory:
    """Turns images that are in memory into squares, when the answer is asked for.

    Args:
        preprocessing: of the bundle.
        images: by what they are called: a data set, or (rows, columns) integers.
    """

    ahead = 0

    def __init__(self, preprocessing: Preprocessing, images: Mapping[Path, Image]) -> None:
        self._preprocessing = preprocessing
        self._images = images

    def submit(self, file: Path, size_px: int) -> Callable[[], Decoded]:
        def slices() -> list[Slice]:
            image = self._images[file]
            frames = frames_of(image) if isinstance(image, FileDataset) else [frame_of_array(image)]
            return slices_of(frames, file, size_px, self._preprocessing)

        return partial(_tried, slices)


def try_slices(file: Path, size_px: int, preprocessing: Preprocessing) -> Decoded:
    """The squares of a file, or why there are none, whatever goes wrong and wherever it runs."""
    return _tried(lambda: read_slices(file, size_px, preprocessing))


def _tried(slices: Callable[[], list[Slice]]) -> Decoded:
    try:
        return slices()
    except SkipFile as skip:
        return skip
    except MemoryError:
        return SkipFile(Reason.TOO_LARGE, "more memory than a file may take")
    except Exception as error:  # its text may quote the header
        return SkipFile(Reason.DECODER_FAILED, f"unexpected {type(error).__name__}")
