"""Where files are decoded: in this process, or in others (``decoding_pool``); one protocol."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom.slices import Slice, read_slices
from rsna_lumbar.runtime.system.cores import usable_cores

# Below this many files a pool costs more to start than it saves.
FILES_WORTH_A_POOL = 300

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


def open_decoder(
    workers: int, preprocessing: Preprocessing, *, largest_px: int
) -> AbstractContextManager[Decoder]:
    """A decoder with so many processes; 0 decodes in this one.

    Args:
        workers: processes; a script that asks for them needs ``if __name__ == "__main__":``.
        preprocessing: of the bundle.
        largest_px: side of the largest square that will be asked for.
    """
    if workers == 0:
        return DecodeHere(preprocessing)
    from rsna_lumbar.runtime.decode.worker_pool import DecodingPool

    return DecodingPool(workers, preprocessing, largest_px=largest_px)


def default_workers(file_count: int, *, on_gpu: bool = False) -> int:
    """Processes for a job: one for a small one, else one for every second core.

    There is always one: what crashes or hangs a decoder must not take the run with it.

    On a CPU a slice takes some 17 ms of cores to score and 2 to decode (YOLOv8s, 384 px, bfloat16).
    Beside a GPU decoding is what all wait for: one for every core.
    """
    if file_count < FILES_WORTH_A_POOL:
        return 1
    return usable_cores() if on_gpu else max(1, usable_cores() // 2)


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
