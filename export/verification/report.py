"""What a bundle holds, as tables: what was measured of it, and what of it can run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.runtime.bundle.records import Bundle, Detector, Model, Parity, WindowSource
from rsna_lumbar.runtime.bundle.trust import TrustedEngines
from rsna_lumbar.runtime.core.errors import BundleError
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.inference.compatibility import checked_contents, judge
from rsna_lumbar.runtime.inference.selection import NOT_VERIFIED
from rsna_lumbar.runtime.system.machine import this_machine

VERIFICATION = (
    "group", "model", "precision", "peak", "probability", "99.9 %", "changed rows", "metric",
    "ms/slice", "against",
)  # fmt: skip
MODELS = ("group", "file", "precision", "size", "hash", "here")
WINDOW: Mapping[WindowSource | None, str] = {
    "card": "from the cards of its checkpoints",
    "asked": "as --window asked for",
    "assumed": "assumed: no card, and no --window",
    None: "where it is from was not recorded",
}


@dataclass(frozen=True, slots=True)
class Damage:
    """Why a model's files are not what the manifest says."""

    state: str  # "missing" or "differs"
    reason: str


def table(folder: Path, bundle: Bundle) -> tuple[str, bool]:
    """What is in a bundle, and whether every file is what the manifest says.

    The first table has the differences from the reference, the second a line a model file and
    where it runs on this machine, or why it does not. Both come from the manifest, the hashes and
    the headers of engines: nothing is loaded.
    """
    damages = [_damage(folder, model) for _, model in bundle.models]
    rows = [
        row
        for (detector, model), damage in zip(bundle.models, damages, strict=True)
        for row in _file_rows(detector, model, damage)
    ]
    parts = [
        verification_table(bundle),
        _aligned((MODELS, *rows)),
        "\n".join(
            [
                *(_calibration(detector) for detector in bundle.detectors),
                f"aim of the calibration: {bundle.calibration_aim}",
                _window(bundle),
                *_missing_groups(bundle),
            ]
        ),
    ]
    return "\n\n".join(parts), not any(damages)


def verification_table(bundle: Bundle) -> str:
    """A line a model: largest differences from the reference, and what it was measured on."""
    rows = [_verification_row(detector, model) for detector, model in bundle.models]
    places = sorted(
        f"{model.variant}: measured on {model.parity.hardware} ({model.parity.device})"
        for model in {model.variant: model for _, model in bundle.models}.values()
        if model.parity and model.parity.ms_per_slice is not None
    )
    return "\n".join((_aligned((VERIFICATION, *rows)), *places))


def _verification_row(detector: Detector, model: Model) -> tuple[str, ...]:
    name = (detector.group.name, _name(model), model.precision)
    if model.parity is None:
        return (*name, "unverified")
    return (*name, *_figures(model.parity))


def _figures(parity: Parity) -> tuple[str, ...]:
    metric = "-" if parity.metric is None else "{:.4f} -> {:.4f}".format(*parity.metric)
    return (
        f"{parity.peak:.1e}",
        f"{parity.probability:.1e}",
        f"{parity.probability_p999:.1e}",
        f"{parity.changed_rows} of {parity.rows}" if parity.rows else "-",
        metric,
        "-" if parity.ms_per_slice is None else f"{parity.ms_per_slice:.3g}",
        f"{parity.reference}, {parity.slices} slices ({parity.source})",
    )


def _name(model: Model) -> str:
    return model.backend if model.engine is None else f"{model.backend} {model.target}"


def _file_rows(detector: Detector, model: Model, damage: Damage | None) -> list[tuple[str, ...]]:
    state, here = (damage.state, damage.reason) if damage else ("ok", _where(model))
    return [
        (detector.group.name, file.name, model.precision, f"{detector.size_px} px", state, here)
        for file in model.files
    ]


def _where(model: Model) -> str:
    """Where a model would run on this machine, or why it does not."""
    verdict = judge(model, this_machine(), trusted=TrustedEngines())
    if not verdict.devices:
        return verdict.reason
    return NOT_VERIFIED if model.parity is None else ", ".join(verdict.devices)


def _damage(folder: Path, model: Model) -> Damage | None:
    try:
        checked_contents(folder, model)
    except BundleError as error:
        missing = any(not (folder / file.name).is_file() for file in model.files)
        return Damage("missing" if missing else "differs", str(error))
    return None


def _calibration(detector: Detector) -> str:
    found = detector.calibration
    if found == Calibration():
        return f"{detector.group.name}: peaks divided by their sum"
    bias = " ".join(f"{value:.3f}" for value in found.bias)
    return (
        f"{detector.group.name}: temperature {found.temperature:.3f}, bias {bias}, "
        f"floor {found.floor:.0e}"
    )


def _window(bundle: Bundle) -> str:
    low, high = bundle.preprocessing.low_percentile, bundle.preprocessing.high_percentile
    return f"window: percentiles {low:g} to {high:g} of each slice ({WINDOW[bundle.window_from]})"


def _missing_groups(bundle: Bundle) -> list[str]:
    return [
        f"{group.name}: no detector; its rows are not written, {group.series_kind} is not read"
        for group in bundle.missing_groups
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    columns = max(map(len, rows))
    full = [(*row, *[""] * (columns - len(row))) for row in rows]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in full
    )
