"""A bundle opened on this machine: the chosen variant, the reason, and its sessions.

Nothing here imports DICOM code, so a run can open models while that code is being imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from rsna_lumbar.runtime.backends import NO_OPTIONS
from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.core.errors import BackendError
from rsna_lumbar.runtime.inference.plan import Plan
from rsna_lumbar.runtime.inference.selection import Candidate, Choice
from rsna_lumbar.runtime.inference.sessions import open_best
from rsna_lumbar.runtime.system.closing import Closing
from rsna_lumbar.runtime.system.cores import usable_cores


class OpenBundle(Closing):
    """The models of a plan, opened; a context manager.

    ``threads`` are those of the runtime library on the CPU; None takes every usable core. The
    library's own ``options`` are set last.

    Raises:
        BundleError: a file differs from the manifest.
        UsageError, BackendError: no candidate can be opened; this is the last one's error.
    """

    def __init__(
        self, plan: Plan, *, threads: int | None = None, options: Mapping[str, str] = NO_OPTIONS
    ) -> None:
        self._resources = ExitStack()
        self._plan, self._options = plan, options
        self._threads = threads or usable_cores()
        self.bundle: Bundle = plan.bundle
        opened = open_best(plan, threads=self._threads, options=options, resources=self._resources)
        self.models = opened.models
        self.candidate: Candidate = opened.candidate
        self.device = opened.candidate.device
        self.note = opened.note
        self.batch_size = opened.batch_size

    def halve_batches(self, error: Exception) -> None:
        """Step 3 after a lack of memory, see ``scheduler.py``.

        Raises:
            BackendError: the batch size is 1 already, or the models can no longer be opened.
        """
        if self.batch_size == 1:
            raise BackendError(f"out of memory with one slice in a batch: {error}") from error
        before, self.batch_size = self.batch_size, self.batch_size // 2
        self._resources.close()
        again = replace(
            self._plan, choice=Choice((self.candidate,), {}), batch_size=self.batch_size
        )
        opened = open_best(
            again, threads=self._threads, options=self._options, resources=self._resources
        )
        self.models = opened.models
        short = f"out of memory with batches of {before}: {self.batch_size} from there on"
        self.note = "; ".join(filter(None, (self.note, short)))

    @property
    def backend(self) -> str:
        return self.candidate.variant.backend

    @property
    def precision(self) -> str:
        return self.candidate.variant.precision

    def close(self) -> None:
        """Release the models."""
        self._resources.close()
