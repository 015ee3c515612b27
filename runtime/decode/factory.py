"""Where files are decoded: in this process, or in a pool of others."""

from __future__ import annotations

from contextlib import AbstractContextManager

from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.decode.decoder import DecodeHere, Decoder
from rsna_lumbar.runtime.decode.worker_pool import DecodingPool
from rsna_lumbar.runtime.system.cores import usable_cores

# Below this many files a pool costs more to start than it saves.
FILES_WORTH_A_POOL = 300


def open_decoder(
    workers: int, preprocessing: Preprocessing, *, largest_px: int
) -> AbstractContextManager[Decoder]:
    """A decoder with so many processes; 0 decodes in this one.

    Args:
        workers: processes.
        preprocessing: of the bundle.
        largest_px: side of the largest square that will be asked for.
    """
    if workers == 0:
        return DecodeHere(preprocessing)
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
