"""What decodes files, as a protocol, and its simplest form: in this process, when it is asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom.slices import Slice, read_slices

Decoded = list[Slice] | SkipFile


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


def try_slices(file: Path, size_px: int, preprocessing: Preprocessing) -> Decoded:
    """The squares of a file, or why there are none, whatever goes wrong and wherever it runs."""
    try:
        return read_slices(file, size_px, preprocessing)
    except SkipFile as skip:
        return skip
    except MemoryError:
        return SkipFile(Reason.TOO_LARGE, "more memory than a file may take")
    except Exception as error:  # its text may quote the header
        return SkipFile(Reason.DECODER_FAILED, f"unexpected {type(error).__name__}")
