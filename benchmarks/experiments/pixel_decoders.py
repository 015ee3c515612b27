"""The decoders that are compared: ways from a file in memory to its pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.pixels.utils import pixel_array

from rsna_lumbar.runtime.dicom.pixels import stored_pixels

Pixels = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Decoder:
    """One way from a file in memory to its pixels: ``prepare`` is not timed, ``decode`` is."""

    name: str
    prepare: Callable[[bytes], Any]
    decode: Callable[[Any], Pixels]

    def of(self, content: bytes) -> Pixels:
        return self.decode(self.prepare(content))


def parse(content: bytes) -> FileDataset:
    return pydicom.dcmread(io.BytesIO(content))


def _plugin(name: str) -> Callable[[FileDataset], Pixels]:
    return lambda dataset: pixel_array(
        dataset,
        raw=True,
        decoding_plugin=name if dataset.file_meta.TransferSyntaxUID.is_encapsulated else "",
    )


def _dicomsdl(content: bytes) -> Pixels:
    library = import_module("dicomsdl")
    return np.asarray(library.open_memory(content).pixelData(storedvalue=True))


DECODERS = (
    Decoder("runtime", parse, lambda dataset: stored_pixels(dataset).frames),
    Decoder("pydicom+pylibjpeg", parse, _plugin("pylibjpeg")),
    Decoder("pydicom", parse, _plugin("pydicom")),
    Decoder("dicomsdl", lambda content: content, _dicomsdl),
)
