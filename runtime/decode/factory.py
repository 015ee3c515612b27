"""Choose where files are decoded: in this process, or in a pool of worker processes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.decode.decoder import DecodeHere, Decoder
from rsna_lumbar.runtime.decode.worker_pool import DecodingPool
from rsna_lumbar.runtime.system.cores import usable_cores

# With fewer files, a pool takes longer to start than it saves.
FILES_WORTH_A_POOL = 300


def open_decoder(
    workers: int, preprocessing: Preprocessing, *, largest_px: int
) -> AbstractContextManager[Decoder]:
    """A decoder with this many processes, for squares of up to ``largest_px``; 0 decodes here."""
    if workers == 0:
        return nullcontext(DecodeHere(preprocessing))
    return DecodingPool(workers, preprocessing, largest_px=largest_px)


def default_workers(file_count: int, *, on_gpu: bool = False, cores: int | None = None) -> int:
    """Number of decoding processes: one for a small job, otherwise one for every two cores.

    There is always at least one, so that a crash or hang of a decoder never affects the run.

    On a CPU a slice takes about 17 ms of core time to score and 2 ms to decode (YOLOv8s, 384 px,
    bfloat16). Beside a GPU, decoding is the bottleneck: one process for every core.
    """
    if file_count < FILES_WORTH_A_POOL:
        return 1
    cores = cores or usable_cores()
    return cores if on_gpu else max(1, cores // 2)
