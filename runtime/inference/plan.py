"""The plan of what to open: the bundle is read once, and its variants are ranked once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.bundle.trust import TrustedEngines
from rsna_lumbar.runtime.inference.selection import Choice, Wanted, choose
from rsna_lumbar.runtime.system.machine import this_machine


@dataclass(frozen=True, slots=True)
class Plan:
    """A bundle as its manifest describes it, and the variants to open."""

    folder: Path
    bundle: Bundle
    choice: Choice
    batch_size: int | None  # slices per batch; None takes the backend's default for the device

    @property
    def device(self) -> str:
        """The device that the models will run on, unless the best candidate cannot be opened."""
        return self.choice.candidates[0].device


def plan_for(folder: Path, wanted: Wanted, *, trust: bool) -> Plan:
    """Read a bundle made by rsna-export and choose variants; nothing is opened.

    ``trust`` also allows engines that were not built or accepted here. Engines are executable code.

    Raises:
        BundleError: the manifest cannot be used.
        UsageError: the backend, precision or device is not available.
    """
    bundle = read_bundle(folder)
    trusted = None if trust else TrustedEngines()
    choice = choose(bundle, this_machine(), wanted, trusted)
    return Plan(folder, bundle, choice, wanted.batch_size)
