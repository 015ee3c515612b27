"""What can go wrong, as a small family. The commands turn each into one line and an exit code."""

from __future__ import annotations

import re


class LumbarError(Exception):
    """The work cannot go on. The message says what, which file, and what to do. Exit code 1."""

    exit_code = 1


class UsageError(LumbarError):
    """The request cannot be met as asked (an option, a device, a backend). Exit code 2."""

    exit_code = 2


class BundleError(LumbarError):
    """The bundle is missing, damaged, or of a format that this version does not read."""


class DataError(LumbarError):
    """The data folder or one of its tables cannot be used at all."""


class BackendError(LumbarError):
    """A runtime refused a model, or failed while it ran one."""


class OutOfMemory(BackendError):
    """A runtime had too little memory for a batch; a smaller one may fit."""


class ExportError(LumbarError):
    """A checkpoint cannot be exported, or its graph does not give PyTorch's answer."""


class CheckpointError(ExportError):
    """A file is not a checkpoint of a detector that this program can rewrite."""


class VerificationError(ExportError):
    """The exported graph differs from PyTorch by more than rounding."""


class BuildError(ExportError):
    """A model cannot be built from its graph. It costs that model; the others are made."""

    def __init__(self, message: str, target: str) -> None:
        """target: what it was to be built for, as a model of a bundle has it."""
        super().__init__(message)
        self.target = target


# What ONNX Runtime, OpenVINO, CUDA and C++ say of it.
_NO_MEMORY = re.compile(
    r"out of memory|failed to allocate|bad[_ ]alloc|cudaErrorMemoryAllocation|STATUS_ALLOC_FAILED"
    r"|not enough memory|BFCArena",
    re.IGNORECASE,
)


def run_failed(message: str) -> BackendError:
    """The error of a runtime that failed on a batch, told from what it says."""
    return (OutOfMemory if _NO_MEMORY.search(message) else BackendError)(message)
