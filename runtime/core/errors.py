"""A small family of errors. The commands turn each one into one line and an exit code."""

from __future__ import annotations

import re


class LumbarError(Exception):
    """The work cannot continue. The message says what, which file, and what to do. Exit code 1."""

    exit_code = 1


class UsageError(LumbarError):
    """The request cannot be met as given (an option, a device, a backend). Exit code 2."""

    exit_code = 2


class BundleError(LumbarError):
    """The bundle is missing, damaged, or in a format that this version does not read."""


class DataError(LumbarError):
    """The data folder or one of its tables is not usable at all."""


class BackendError(LumbarError):
    """A runtime library rejected a model, or failed while running it."""


class OutOfMemory(BackendError):
    """A runtime library had too little memory for a batch; a smaller batch may fit."""


class ExportError(LumbarError):
    """A checkpoint cannot be exported, or its graph does not reproduce PyTorch's result."""


class CheckpointError(ExportError):
    """A file is not a checkpoint of a detector that this program can rewrite."""


class VerificationError(ExportError):
    """The exported graph differs from PyTorch by more than rounding."""


class BuildError(ExportError):
    """A model cannot be built from its graph. Only this model is missing; the others are made."""

    def __init__(self, message: str, target: str) -> None:
        """target: the target that it was to be built for, as a bundle's model records it."""
        super().__init__(message)
        self.target = target


# Texts with which ONNX Runtime, OpenVINO, CUDA and C++ report a lack of memory.
_NO_MEMORY = re.compile(
    r"out of memory|failed to allocate|bad[_ ]alloc|cudaErrorMemoryAllocation|STATUS_ALLOC_FAILED"
    r"|not enough memory|BFCArena",
    re.IGNORECASE,
)


def run_failed(message: str) -> BackendError:
    """The error for a runtime library that failed on a batch; its message decides the class."""
    return (OutOfMemory if _NO_MEMORY.search(message) else BackendError)(message)
