"""A bundle opened on this machine: what was chosen of it, why, and its sessions.

Nothing here reads DICOM, so that a run can open its models while it loads what does.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from rsna_lumbar.runtime.backends import NO_OPTIONS
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.bundle.trust import TrustedEngines
from rsna_lumbar.runtime.core.errors import BackendError, BundleError
from rsna_lumbar.runtime.inference.opened import OpenVariant, open_best
from rsna_lumbar.runtime.inference.selection import Candidate, Choice, Wanted, choose
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.machine import this_machine


class OpenBundle:
    """The fastest models of a bundle that this machine can run, or those asked for; a context
    manager.

    Args:
        bundle: its folder, made by rsna-export.
        backend: a name in ``rsna_lumbar.runtime.backends.BACKENDS``, or ``auto``: the fastest that
            the bundle holds and this machine can run.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``, or ``auto``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: slices in a batch; None takes the backend's default for the device.
        threads: of the runtime on the CPU; None takes every usable core.
        trust: open engines that were not built or accepted here, too. They are code.
        options: of the runtime library itself, by its own names: session config entries of ONNX
            Runtime, properties of OpenVINO. They come after those that this package sets.

    Raises:
        BundleError: the bundle cannot be trusted.
        UsageError: the backend, precision or device cannot be had.
        BackendError: a model cannot be opened.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        backend: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
        trust: bool = False,
        options: Mapping[str, str] = NO_OPTIONS,
    ) -> None:
        self._resources = ExitStack()
        self._folder, self._options = Path(bundle), options
        self._threads = threads or usable_cores()
        wanted = Wanted(backend, precision, device, batch_size)
        trusted = None if trust else TrustedEngines()
        self.bundle: Bundle = read_bundle(self._folder)
        try:
            opened = self._open(wanted, trusted)
        except BundleError:
            before, self.bundle = self.bundle, read_bundle(self._folder)
            if self.bundle == before:
                raise
            # It was replaced between its manifest and its files.
            opened = self._open(wanted, trusted)
        self.models = opened.models
        self.candidate: Candidate = opened.candidate
        self.device = opened.candidate.device
        self.note = opened.note
        self.batch_size = opened.batch_size

    def halve_batches(self, error: Exception) -> None:
        """Open the same models again for batches of half the size, which is noted.

        Raises:
            BackendError: batches hold one slice already, or the models do not open any more.
        """
        if self.batch_size == 1:
            raise BackendError(f"out of memory with one slice in a batch: {error}") from error
        before, self.batch_size = self.batch_size, self.batch_size // 2
        self._resources.close()
        opened = open_best(
            self._folder,
            self.bundle,
            Choice((self.candidate,), {}),
            threads=self._threads,
            batch_size=self.batch_size,
            resources=self._resources,
            options=self._options,
        )
        self.models = opened.models
        short = f"out of memory with batches of {before}: {self.batch_size} from there on"
        self.note = "; ".join(filter(None, (self.note, short)))

    def _open(self, wanted: Wanted, trusted: Container[str] | None) -> OpenVariant:
        return open_best(
            self._folder,
            self.bundle,
            choose(self.bundle, this_machine(), wanted, trusted),
            threads=self._threads,
            batch_size=wanted.batch_size,
            resources=self._resources,
            options=self._options,
        )

    @property
    def backend(self) -> str:
        return self.candidate.variant.backend

    @property
    def precision(self) -> str:
        return self.candidate.variant.precision

    def close(self) -> None:
        """Release the models."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
