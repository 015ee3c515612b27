"""Stand-ins for a decoder that crashes or hangs, chosen by the file's name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from rsna_lumbar.runtime import decoding_pool
from rsna_lumbar.runtime.decoding import Decoded, try_slices
from rsna_lumbar.runtime.preprocess import Preprocessing


def fragile(file: Path, size_px: int, preprocessing: Preprocessing) -> Decoded:
    """Decode a file, unless its name says what else to do."""
    if "crash" in file.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "leave" in file.name:
        os._exit(3)
    if "hang" in file.name:
        time.sleep(3600)
    return try_slices(file, size_px, preprocessing)


def work(*arguments: object) -> None:
    """A worker's life, with the fragile decoder."""
    decoding_pool.try_slices = fragile
    decoding_pool._work(*arguments)  # type: ignore[arg-type]


def never_start(*_: object) -> None:
    """A worker that ends before it is ready."""
    os._exit(1)
