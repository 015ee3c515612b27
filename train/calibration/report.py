"""What calibrating found, as tables for people and as an object for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.metric import MetricResult
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.train.calibration.calibrate import Calibrated
from rsna_lumbar.train.calibration.fit_group import GroupFit, Losses
from rsna_lumbar.train.calibration.labelled_peaks import Chosen
from rsna_lumbar.train.evaluation.diagnostics import BINS

_TERMS = ("spinal", "foraminal", "subarticular", "any_severe_spinal", "score")
_LOSS_OF = {"metric": "log loss weighted 1/2/4", "probability": "log loss, unweighted"}
_SHOWN = 3  # examples of missing studies


def as_table(found: Calibrated, chosen: Chosen) -> str:
    """Fits, losses and scores before and after, one group a line, and what else to know."""
    return "\n".join(
        [
            f"{found.studies} studies: {chosen.told}.",
            "",
            *_group_lines(found),
            "",
            *_score_lines(found),
            "",
            *_notes(found),
        ]
    )


def as_json(found: Calibrated, chosen: Chosen) -> str:
    """The same for programs."""
    fields = {
        "aim": found.aim,
        "calibration_aim": found.after.calibration_aim,
        "chosen": chosen.told,
        "studies": found.studies,
        "missing": list(found.missing),
        "groups": {
            detector.group.name: _group_fields(detector.calibration, fit, in_bundle)
            for detector, fit, in_bundle in zip(
                found.after.detectors, found.fits, found.in_bundle, strict=True
            )
        },
        "score": asdict(found.scores),
        "prior": {d.group.name: d.prior for d in found.after.detectors},
        "prior_studies": len(chosen.prior_studies),
        "prior_kept": list(found.kept_prior),
    }
    return json.dumps(fields, indent=2, allow_nan=False)


def _group_fields(
    calibration: Calibration, fit: GroupFit, in_bundle: Losses | None
) -> dict[str, Any]:
    return {
        "rows": fit.rows,
        "studies": fit.studies,
        "adopted": fit.adopted,
        "kept_plain": fit.kept_plain,
        "calibration": asdict(calibration),
        "fitted": asdict(fit.fitted),
        "before": fit.plain and asdict(fit.plain),
        "after": fit.after and asdict(fit.after),
        "fitted_crossvalidated": fit.crossvalidated and asdict(fit.crossvalidated),
        "standard_error": fit.standard_error,
        "in_bundle": in_bundle and asdict(in_bundle),
    }


def _group_lines(found: Calibrated) -> list[str]:
    lines = [
        f"{'':13} {'rows':>6} {'studies':>7} {'T':>7} {'b':>23} {'floor':>6} "
        f"{'loss: plain':>12} {'after':>7} {'error: plain':>13} {'after':>7}"
    ]
    for detector, fit in zip(found.after.detectors, found.fits, strict=True):
        lines.append(
            f"{detector.group.name:13} {fit.rows:6} {fit.studies:7} "
            f"{_parameters(detector.calibration)} "
            f"{_losses(fit.plain, fit.after)}"
        )
    return lines


def _parameters(calibration: Calibration) -> str:
    bias = " ".join(f"{value:7.3f}" for value in calibration.bias)
    return f"{calibration.temperature:7.3f} {bias} {calibration.floor:6.0e}"


def _losses(before: Losses | None, after: Losses | None) -> str:
    if before is None or after is None:
        return f"{'-':>12} {'-':>7} {'-':>13} {'-':>7}"
    return f"{before.loss:12.4f} {after.loss:7.4f} {before.error:13.4f} {after.error:7.4f}"


def _score_lines(found: Calibrated) -> list[str]:
    scores = found.scores
    lines = [f"{'metric':18} {'plain':>8} {'after':>8} {'change':>8}"]
    for term in _TERMS:
        lines.append(_score_line(term, scores.plain, scores.after))
    missing = found.before.missing_groups
    if missing:
        names = " and ".join(group.name for group in missing)
        lines.append(f"The bundle has no {names} detector: the score is that of the groups above.")
    if SPINAL not in missing and scores.plain.any_severe_spinal is None:
        lines.append("No study has a severe spinal row: the score is the mean of the other terms.")
    return lines


def _score_line(term: str, plain: MetricResult, after: MetricResult) -> str:
    before, now = getattr(plain, term), getattr(after, term)
    if before is None or now is None:
        return f"{term:18} {'-':>8} {'-':>8} {'-':>8}"
    return f"{term:18} {before:8.4f} {now:8.4f} {now / before - 1:8.1%}"


def _notes(found: Calibrated) -> list[str]:
    kept_prior = found.kept_prior if found.judged else ()
    return [
        f"aim {found.aim}: loss is the {_LOSS_OF[found.aim]}, error the calibration error in "
        f"{BINS} bins; plain divides by the sum.",
        "after: every study by a fit that did not see it.",
        *(
            f"{detector.group.name} keeps {_kept(detector.calibration)}: {fit.kept_plain}."
            for detector, fit in zip(found.after.detectors, found.fits, strict=True)
            if not fit.adopted
        ),
        "Prior rows for missing series were counted again; they are part of the score after."
        if found.judged
        else "No group could be judged: the bundle stays as it is, prior rows too.",
        *(f"{name} keeps its prior rows: too few labelled studies." for name in kept_prior),
        *_bundle_notes(found),
        *_missing_notes(found),
    ]


def _kept(calibration: Calibration) -> str:
    return "plain division" if calibration == Calibration() else "its earlier calibration"


def _bundle_notes(found: Calibrated) -> list[str]:
    if found.scores.bundle is None:
        return []
    each = ", ".join(
        f"{group.name} {in_bundle.loss:.4f}"
        for group, in_bundle in zip(found.before.groups, found.in_bundle, strict=True)
        if in_bundle is not None
    )
    return [
        f"The bundle was calibrated before (aim {found.before.calibration_aim}): score "
        f"{found.scores.bundle.score:.4f}, loss {each}; it may have been fitted on these studies."
    ]


def _missing_notes(found: Calibrated) -> list[str]:
    if not found.missing:
        return []
    more = ", ..." if len(found.missing) > _SHOWN else ""
    examples = ", ".join(found.missing[:_SHOWN]) + more
    return [f"Labelled studies without an image, left out: {len(found.missing)} ({examples})."]
