"""Tables of what a bundle contains: how its models were verified, and what can run here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rsna_lumbar.runtime.bundle.records import Bundle, Detector, Model, WindowSource
from rsna_lumbar.runtime.bundle.trust import TrustedEngines
from rsna_lumbar.runtime.core.errors import BundleError
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.core.text_table import aligned
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
    "asked": "requested with --window",
    "assumed": "assumed: no card, and no --window",
    None: "source not recorded",
}


def table(folder: Path, bundle: Bundle) -> tuple[str, bool]:
    """What a bundle contains, and whether every file agrees with the manifest.

    The first table has the differences from the reference. The second has a line per model file,
    with the devices of this machine that can run it, or the reason why none can. Everything comes
    from the manifest, the hashes and the headers of engines: no model is loaded.
    """
    damages = [_damage(folder, model) for _, model in bundle.models]
    rows = [
        (detector.group.name, file.name, model.precision, f"{detector.size_px} px", state, here)
        for (detector, model), damage in zip(bundle.models, damages, strict=True)
        for state, here in [damage or ("ok", _where(model))]
        for file in model.files
    ]
    low, high = bundle.preprocessing.low_percentile, bundle.preprocessing.high_percentile
    notes = [
        *map(_calibration, bundle.detectors),
        f"aim of the calibration: {bundle.calibration_aim}",
        f"window: percentiles {low:g} to {high:g} of each slice ({WINDOW[bundle.window_from]})",
        *(
            f"{group.name}: no detector; {group.series_kind} is not read, no rows are written"
            for group in bundle.missing_groups
        ),
    ]
    files = aligned((MODELS, *rows), names=len(MODELS))
    return "\n\n".join((verification_table(bundle), files, "\n".join(notes))), not any(damages)


def verification_table(bundle: Bundle) -> str:
    """A line per model with its largest differences; then the hardware of each variant's times."""
    rows = [_verification_row(detector, model) for detector, model in bundle.models]
    places = sorted(
        f"{model.variant}: measured on {model.parity.hardware} ({model.parity.device})"
        for model in {model.variant: model for _, model in bundle.models}.values()
        if model.parity and model.parity.ms_per_slice is not None
    )
    return "\n".join((aligned((VERIFICATION, *rows), names=len(VERIFICATION)), *places))


def _verification_row(detector: Detector, model: Model) -> tuple[str, ...]:
    backend = model.backend if model.engine is None else f"{model.backend} {model.target}"
    name = (detector.group.name, backend, model.precision)
    parity = model.parity
    if parity is None:
        return (*name, "unverified", *[""] * (len(VERIFICATION) - len(name) - 1))
    return (
        *name,
        f"{parity.peak:.1e}",
        f"{parity.probability:.1e}",
        f"{parity.probability_p999:.1e}",
        f"{parity.changed_rows} of {parity.rows}" if parity.rows else "-",
        "-" if parity.metric is None else "{:.4f} -> {:.4f}".format(*parity.metric),
        "-" if parity.ms_per_slice is None else f"{parity.ms_per_slice:.3g}",
        f"{parity.reference}, {parity.slices} slices ({parity.source})",
    )


def _where(model: Model) -> str:
    """The devices of this machine that can run a model, or the reason why none can."""
    verdict = judge(model, this_machine(), trusted=TrustedEngines())
    if not verdict.devices:
        return verdict.reason
    return NOT_VERIFIED if model.parity is None else ", ".join(verdict.devices)


def _damage(folder: Path, model: Model) -> tuple[str, str] | None:
    """``missing`` or ``differs``, and the reason, if a model's files contradict the manifest."""
    try:
        checked_contents(folder, model)
    except BundleError as error:
        missing = any(not (folder / file.name).is_file() for file in model.files)
        return "missing" if missing else "differs", str(error)
    return None


def _calibration(detector: Detector) -> str:
    told = f"{detector.group.name}: {_fitted(detector.calibration)}"
    return f"{told}; by views: {_fitted(detector.by_views)}" if detector.by_views else told


def _fitted(found: Calibration) -> str:
    if found == Calibration():
        return "peaks divided by their sum"
    bias = " ".join(f"{value:.3f}" for value in found.bias)
    return f"temperature {found.temperature:.3f}, bias {bias}, floor {found.floor:.0e}"
