"""Stand-ins for a decoder that crashes or hangs, chosen by the file's name."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from ending import write_whole

from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.decode import decoder, worker
from rsna_lumbar.runtime.decode.decoder import Decoded, try_slices
from rsna_lumbar.runtime.dicom.slices import Slice


def fragile(file: Path, size_px: int, preprocessing: Preprocessing) -> Decoded:
    """Decode a file, unless its name says what else to do."""
    if "crash" in file.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "leave" in file.name:
        os._exit(3)
    if "greedy" in file.name:
        really, decoder.read_slices = decoder.read_slices, _greedy
        try:
            return try_slices(file, size_px, preprocessing)
        finally:
            decoder.read_slices = really
    if "hold" in file.name:  # as foreign code does: no other thread of the process runs
        write_whole(sign_of(file), str(os.getpid()))
        re.match(r"(a+)+b", "a" * 60)
    if "hang" in file.name:
        write_whole(sign_of(file), str(os.getpid()))
        time.sleep(3600)
    return try_slices(file, size_px, preprocessing)


def sign_of(file: Path) -> Path:
    """Beside a file that hangs, once it does: the number of the process that is at it."""
    return file.with_suffix(".hangs")


def _greedy(*_: object) -> list[Slice]:
    return [np.ones(2**31, np.uint8)]  # type: ignore[list-item]


def work(*arguments: object) -> None:
    """A worker's life, with the fragile decoder."""
    worker.try_slices = fragile
    worker.work(*arguments)  # type: ignore[arg-type]


class Told:
    """A worker's end of its pipe; a byte in the file TOLD for each file that it has answered."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def recv(self) -> Any:
        return self.pipe.recv()

    def send(self, replies: Any) -> None:
        self.pipe.send(replies)
        with open(os.environ["TOLD"], "a") as stream:
            stream.write("." * sum(reply.last for reply in replies))


def tell(pipe: Any, *arguments: object) -> None:
    """A worker's life, with the fragile decoder; it shows how much it has said."""
    work(Told(pipe), *arguments)


def never_start(*_: object) -> None:
    """A worker that ends before it is ready."""
    os._exit(1)


def start_late(*arguments: object) -> None:
    """A worker that ends before it is ready, but for the third."""
    tried = Path(os.environ["STARTS"])
    tried.write_text(tried.read_text() + "1")
    if len(tried.read_text()) < 3:
        os._exit(1)
    worker.work(*arguments)  # type: ignore[arg-type]
