"""Choose the variant of a bundle to score with: by request, by what runs here, by speed.

A variant must be whole (a model for every checkpoint of every group) and verified. ``auto`` ranks
by the speed that the bundle measured: first on this very hardware, then on the same kind of device
elsewhere, then by the order of the manifest.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass

from rsna_lumbar.runtime.backends import BACKENDS
from rsna_lumbar.runtime.bundle.records import PRECISIONS, Bundle, Model, Parity, Variant
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.inference.compatibility import AUTO, judge
from rsna_lumbar.runtime.system.machine import CPU, Machine, kind_of

NOT_VERIFIED = "unverified: rsna-export --verify BUNDLE on a machine that can run it"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The caller's requirements."""

    backend: str = AUTO
    precision: str = AUTO
    device: str = AUTO
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant that can run here."""

    variant: Variant
    device: str
    ms_per_slice: float | None  # one slice through a model of each group; None if not measured
    measured_on: str  # hardware, in words; empty if not measured
    measured_here: bool

    @property
    def rank(self) -> tuple[bool, bool, float]:
        ms = math.inf if self.ms_per_slice is None else self.ms_per_slice
        return (self.device == CPU, not self.measured_here, ms)


@dataclass(frozen=True, slots=True)
class Choice:
    """Variants that can run here, the best first, and the reasons why the others cannot."""

    candidates: tuple[Candidate, ...]
    refused: Mapping[Variant, str]

    def why(self, chosen: Candidate) -> str:
        """The reason for this choice, in one line."""
        others = [one for one in self.candidates if one is not chosen]
        words = [_measured(chosen, others)] if others else []
        if self.refused:
            words.append(f"not {_reasons(self.refused)}")
        return "; ".join(words)


def choose(
    bundle: Bundle, machine: Machine, wanted: Wanted, trusted: Container[str] | None
) -> Choice:
    """Rank the variants of a bundle that can run here and meet the requirements.

    ``trusted``: SHA-256 of the engines that may be opened; None trusts all.

    Raises:
        UsageError: there is none.
    """
    _require_known(wanted)
    asked = [
        variant
        for variant in bundle.variants
        if wanted.backend in (AUTO, variant.backend)
        and wanted.precision in (AUTO, variant.precision)
    ]
    if not asked:
        raise UsageError(_nothing_asked(bundle, wanted))
    refused: dict[Variant, str] = {}
    candidates = []
    for variant in asked:
        models = [model for _, model in bundle.models if model.variant == variant]
        devices, reason = _places(models, machine, wanted, trusted)
        candidates += [_candidate(variant, models, device, machine) for device in devices]
        if not devices:
            refused[variant] = reason
    if not candidates:
        raise UsageError(f"nothing that was asked for can run here: {_reasons(refused)}")
    return Choice(tuple(sorted(candidates, key=lambda one: one.rank)), refused)


def _places(
    models: list[Model], machine: Machine, wanted: Wanted, trusted: Container[str] | None
) -> tuple[tuple[str, ...], str]:
    """Devices that every model of a variant can run on, or the reason why there are none."""
    devices: list[str] | None = None
    for model in models:
        verdict = judge(
            model, machine, device=wanted.device, batch_size=wanted.batch_size, trusted=trusted
        )
        if not verdict.devices:
            return (), verdict.reason
        if model.parity is None:
            return (), NOT_VERIFIED
        here = [device for device in verdict.devices if _verified_on(model, model.parity, device)]
        if not here:
            return (), f"verified on {model.parity.device} only: rsna-export --verify BUNDLE here"
        devices = here if devices is None else [device for device in devices if device in here]
    return tuple(devices or ()), "its models run on different devices"


def _verified_on(model: Model, parity: Parity, device: str) -> bool:
    """float32 holds on every kind of device, to rounding; others only where verified."""
    return model.precision == "fp32" or kind_of(parity.device) == kind_of(device)


def _candidate(variant: Variant, models: list[Model], device: str, machine: Machine) -> Candidate:
    measured = [model.parity for model in models if model.parity]
    speeds = [parity.ms_per_slice for parity in measured if parity.ms_per_slice is not None]
    places = {(kind_of(parity.device), parity.hardware) for parity in measured}
    comparable = (
        len(speeds) == len(models) and len(places) == 1 and next(iter(places))[0] == kind_of(device)
    )
    hardware = next(iter(places))[1] if comparable else ""
    return Candidate(
        variant,
        device,
        sum(speeds) if comparable else None,
        hardware,
        comparable and hardware == machine.describe(device),
    )


def _reasons(refused: Mapping[Variant, str]) -> str:
    """Variants with the reason in brackets; variants with the same reason are listed together."""
    by_reason: dict[str, list[str]] = {}
    for variant, why in refused.items():
        by_reason.setdefault(why, []).append(str(variant))
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())


def _measured(chosen: Candidate, others: list[Candidate]) -> str:
    if chosen.ms_per_slice is None:
        return f"no speed of {chosen.device} is known; others: {_listed(others)}"
    where = "" if chosen.measured_here else f" on {chosen.measured_on}"
    return f"{chosen.ms_per_slice:.3g} ms a slice{where}, {_listed(others)}"


def _listed(others: list[Candidate]) -> str:
    return ", ".join(
        f"{one.variant} on {one.device} "
        f"{'unmeasured' if one.ms_per_slice is None else f'{one.ms_per_slice:.3g}'}"
        for one in others
    )


def _require_known(wanted: Wanted) -> None:
    if wanted.backend not in (AUTO, *BACKENDS):
        raise UsageError(f"no backend {wanted.backend!r}; there is auto, {', '.join(BACKENDS)}")
    if wanted.precision not in (AUTO, *PRECISIONS):
        raise UsageError(
            f"no precision {wanted.precision!r}; there is auto, {', '.join(PRECISIONS)}"
        )


def _nothing_asked(bundle: Bundle, wanted: Wanted) -> str:
    has = ", ".join(map(str, bundle.variants))
    words = " ".join(one for one in (wanted.backend, wanted.precision) if one != AUTO)
    return (
        f"the bundle has no model for {words}, it has {has}; rsna-export BUNDLE --format ... "
        "--precision ... adds models to it"
    )
