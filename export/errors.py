"""What can go wrong in an export."""

from __future__ import annotations

from rsna_lumbar.runtime.bundle import ANY_TARGET
from rsna_lumbar.runtime.errors import LumbarError


class ExportError(LumbarError):
    """A checkpoint cannot be exported, or its graph does not give PyTorch's answer."""


class CheckpointError(ExportError):
    """A file is not a checkpoint of a detector that this program can rewrite."""


class VerificationError(ExportError):
    """The exported graph differs from PyTorch by more than rounding."""


class BuildError(ExportError):
    """A model cannot be built from its graph. It costs that model; the others are made."""

    def __init__(self, message: str, target: str = ANY_TARGET) -> None:
        """target: what it was to be built for."""
        super().__init__(message)
        self.target = target
