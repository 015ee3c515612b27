"""The interface of a decoder, and its simplest form: decode in this process, on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom.slices import Frame, Slice, frames_of, read_slices, slices_of

Decoded = list[Slice] | SkipFile
Image = Dataset | NDArray[np.integer]


class Decoder(Protocol):
    """Decodes requested files."""

    @property
    def ahead(self) -> int:
        """Number of files to request before the first result is needed."""

    def submit(self, file: Path, size_px: int) -> Callable[[], Decoded]:
        """Request a file's squares; the returned function waits for them."""


class DecodeHere:
    """Decodes in this process, when the result is requested."""

    ahead = 0

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def submit(self, file: Path, size_px: int) -> Callable[[], Decoded]:
        return partial(try_slices, file, size_px, self._preprocessing)


class DecodeInMemory:
    """Turns images into squares on request: data sets, or (rows, columns) integers, by name."""

    ahead = 0

    def __init__(self, preprocessing: Preprocessing, images: Mapping[Path, Image]) -> None:
        self._preprocessing = preprocessing
        self._images = images

    def submit(self, file: Path, size_px: int) -> Callable[[], Decoded]:
        def slices() -> list[Slice]:
            image = self._images[file]
            if isinstance(image, Dataset):
                frames = frames_of(cast(FileDataset, image))
            else:
                frames = [Frame(image)]
            return slices_of(frames, file, size_px, self._preprocessing)

        return partial(_tried, slices)


def try_slices(file: Path, size_px: int, preprocessing: Preprocessing) -> Decoded:
    """The squares of a file, or the reason why there are none. Raises no exception of a decoder."""
    return _tried(lambda: read_slices(file, size_px, preprocessing))


def _tried(slices: Callable[[], list[Slice]]) -> Decoded:
    try:
        return slices()
    except SkipFile as skip:
        return skip
    except MemoryError:
        return SkipFile(Reason.TOO_LARGE, "more memory than a file may take")
    except Exception as error:  # the text of the error may quote the header
        return SkipFile(Reason.DECODER_FAILED, f"unexpected {type(error).__name__}")
