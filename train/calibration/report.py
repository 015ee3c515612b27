"""The result of calibrating: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.metric import SCORE, TERMS
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.core.text_table import aligned
from rsna_lumbar.train.calibration.calibrate import Calibrated
from rsna_lumbar.train.calibration.fit_group import PLAIN, GroupFit, Losses
from rsna_lumbar.train.calibration.labelled_peaks import Chosen
from rsna_lumbar.train.evaluation.diagnostics import BINS

_LOSS_OF = {"metric": "log loss weighted 1/2/4", "probability": "log loss, unweighted"}
_SHOWN = 3  # examples of missing studies


def as_table(found: Calibrated, chosen: Chosen) -> str:
    """Fits and losses by group, scores before and after, and notes."""
    notes = "\n".join(_notes(found))
    return (
        f"{found.studies} studies: {chosen.told}.\n\n{_groups(found)}\n\n{_scores(found)}\n{notes}"
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


def _groups(found: Calibrated) -> str:
    rows = [["", "rows", "studies", "T", "b", "floor",
             "loss: plain", "after", "error: plain", "after"]]  # fmt: skip
    for detector, fit in zip(found.after.detectors, found.fits, strict=True):
        used, before, after = detector.calibration, fit.plain, fit.after
        measured = ["-"] * 4
        if before is not None and after is not None:
            figures = before.loss, after.loss, before.error, after.error
            measured = [f"{figure:.4f}" for figure in figures]
        bias = " ".join(f"{value:7.3f}" for value in used.bias)
        fitted = [f"{used.temperature:.3f}", bias, f"{used.floor:.0e}"]
        rows.append([detector.group.name, str(fit.rows), str(fit.studies), *fitted, *measured])
    return aligned(rows)


def _scores(found: Calibrated) -> str:
    rows = [["metric", "plain", "after", "change"]]
    for term in (*TERMS, SCORE):
        before, now = (getattr(one, term) for one in (found.scores.plain, found.scores.after))
        cells = ["-"] * 3
        if before is not None and now is not None:
            cells = [f"{before:.4f}", f"{now:.4f}", f"{now / before - 1:.1%}"]
        rows.append([term, *cells])
    return aligned(rows)


def _notes(found: Calibrated) -> Iterator[str]:
    missing = found.before.missing_groups
    if missing:
        names = " and ".join(group.name for group in missing)
        yield f"The bundle has no {names} detector: the score is that of the groups above."
    if SPINAL not in missing and found.scores.plain.any_severe_spinal is None:
        yield "No study has a severe spinal row: the score is the mean of the other terms."
    yield ""
    yield (
        f"aim {found.aim}: loss is the {_LOSS_OF[found.aim]}; error is the calibration error in "
        f"{BINS} bins; plain divides by the sum."
    )
    yield "after: every study scored by a fit that did not see it."
    for detector, fit in zip(found.after.detectors, found.fits, strict=True):
        if not fit.adopted:
            plain = detector.calibration == PLAIN
            kept = "plain division" if plain else "its earlier calibration"
            yield f"{detector.group.name} keeps {kept}: {fit.kept_plain}."
    if found.judged:
        yield "Prior rows for missing series were counted again; they are part of the score after."
        for name in found.kept_prior:
            yield f"{name} keeps its prior rows: too few labelled studies."
    else:
        yield "No group could be judged: the bundle stays as it is, including its prior rows."
    if found.scores.bundle is not None:
        groups = zip(found.before.groups, found.in_bundle, strict=True)
        each = ", ".join(f"{group.name} {one.loss:.4f}" for group, one in groups if one is not None)
        yield (
            f"The bundle was calibrated before (aim {found.before.calibration_aim}): score "
            f"{found.scores.bundle.score:.4f}, loss {each}; possibly fitted on these studies."
        )
    if found.missing:
        more = ", ..." if len(found.missing) > _SHOWN else ""
        examples = ", ".join(found.missing[:_SHOWN]) + more
        yield f"Labelled studies without an image, left out: {len(found.missing)} ({examples})."
