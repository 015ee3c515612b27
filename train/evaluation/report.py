"""An evaluation as text: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from textwrap import fill
from typing import Any, TypeVar

from rsna_lumbar.runtime.core.labels import (
    CONDITIONS,
    GRADE_TITLES,
    GRADES,
    GROUPS,
    LEVELS,
    level_title,
)
from rsna_lumbar.runtime.core.metric import ANY_SEVERE, SCORE, TERMS
from rsna_lumbar.runtime.core.text_table import aligned
from rsna_lumbar.train.evaluation.bootstrap import CONFIDENCE, Interval
from rsna_lumbar.train.evaluation.diagnostics import (
    ALL,
    BINS,
    Diagnostics,
    GradeReport,
    GroupReport,
)
from rsna_lumbar.train.evaluation.evaluate import Evaluation
from rsna_lumbar.train.evaluation.severe import SevereReport

S = TypeVar("S")
T = TypeVar("T")

_POOLS = {**{group.name: group.name.title() for group in GROUPS}, ALL: "All"}
_TITLES = {
    **_POOLS,
    ANY_SEVERE: "Any severe spinal",
    SCORE: "Score (mean)",
    # "Left foraminal": the conditions of groups that have two, by side.
    **{
        condition: f"{condition.partition('_')[0]} {group.name}".capitalize()
        for group in GROUPS
        for condition in group.conditions
        if len(group.conditions) > 1
    },
}
_WIDTH = 100  # columns
NOT_CALIBRATED = (
    "The metric is best for 1/2/4 times the probabilities: what scores best is not calibrated."
)


def as_table(evaluation: Evaluation) -> str:
    """Terms of submission and prior; losses by level; figures by group and grade; severe rows."""
    about = [
        f"{evaluation.studies} studies, {evaluation.diagnostics.groups[ALL].rows} graded rows; "
        f"weighted class prior of {evaluation.prior_from}."
    ]
    if evaluation.intervals:
        about.append(
            f"Intervals: {evaluation.intervals.resamples} resamples of the studies (percentile "
            "bootstrap), the same for the prior."
        )
    parts = [
        _terms(evaluation),
        "\n".join(
            fill(line, _WIDTH, break_long_words=False, break_on_hyphens=False)
            for line in (*about, *evaluation.notes)
        ),
        "Weighted log loss by level\n" + _levels(evaluation.diagnostics),
        f"By labelled grade; calibration error over {BINS} bins; on the right, rows by likeliest "
        "grade\n" + _grades(evaluation.diagnostics) + f"\n{NOT_CALIBRATED}",
        "Severe against the other two grades; called severe if it is the likeliest grade\n"
        + _severe(evaluation.severe),
    ]
    return "\n\n".join(parts)


def as_json(evaluation: Evaluation) -> str:
    """The same for programs. Null: does not exist, or was not scored.

    Top level: ``score``, ``spinal``, ``foraminal``, ``subarticular``, ``any_severe_spinal``;
    ``prior`` (the same five), ``prior_from``, ``ratio``; ``intervals`` (null without resampling):
    ``confidence``, ``resamples``, then for each of the five ``missing`` (number of resamples
    without it), ``submission`` and ``ratio`` (``low`` and ``high`` each); ``studies``, ``rows``
    (graded), ``ignored_rows``, ``notes``; ``groups`` (names of the scored ones),
    ``unanswered_groups`` (without a row in the submission), ``ungraded_groups`` (without a label).

    Also ``per_level`` (level, then group or ``all``: loss), ``per_grade`` (group or ``all``, then
    grade: count, loss, recall, precision), ``calibration_error`` (group or ``all``, then ``mean``
    and each grade), ``confusion`` (group or ``all``: rows by labelled, columns by likeliest grade),
    ``reliability`` (group or ``all``, then grade: ten bins with count, mean_probability, share),
    ``severe`` (condition or group, then level or ``all``: ``severe`` and ``other`` rows,
    ``sensitivity``, ``specificity``). Definitions:
    :mod:`rsna_lumbar.train.evaluation.diagnostics`, :mod:`rsna_lumbar.train.evaluation.severe`.
    """
    groups = evaluation.diagnostics.groups
    fields = {
        **asdict(evaluation.submission),
        "prior": asdict(evaluation.prior),
        "prior_from": evaluation.prior_from,
        "ratio": evaluation.ratio,
        "intervals": _interval_fields(evaluation),
        "studies": evaluation.studies,
        "rows": groups[ALL].rows,
        "ignored_rows": evaluation.ignored,
        "notes": list(evaluation.notes),
        "groups": [group.name for group in evaluation.groups],
        "unanswered_groups": [group.name for group in evaluation.unanswered],
        "ungraded_groups": [group.name for group in evaluation.ungraded],
        "per_level": {
            level: {pool: losses.get(pool) for pool in _POOLS}
            for level, losses in evaluation.diagnostics.levels.items()
        },
        "per_grade": _each(groups, _POOLS, lambda group: _by_grade(group, _grade_fields)),
        "calibration_error": _each(
            groups,
            _POOLS,
            lambda group: {
                "mean": group.calibration_error,
                **_by_grade(group, lambda report: report.calibration_error),
            },
        ),
        "confusion": _each(groups, _POOLS, lambda group: group.confusion),
        "reliability": _each(
            groups,
            _POOLS,
            lambda group: _by_grade(group, lambda report: list(map(asdict, report.reliability))),
        ),
        "severe": _each(
            evaluation.severe,
            (*CONDITIONS, *(group.name for group in GROUPS)),
            lambda by_level: {level: asdict(report) for level, report in by_level.items()},
        ),
    }
    return json.dumps(fields, indent=2, allow_nan=False)


def _interval_fields(evaluation: Evaluation) -> dict[str, Any] | None:
    found = evaluation.intervals
    if found is None:
        return None
    names = (SCORE, *TERMS)
    return {
        "confidence": CONFIDENCE,
        "resamples": found.resamples,
        "missing": {name: found.missing.get(name) for name in names},
        "submission": _each(found.submission, names, asdict),
        "ratio": _each(found.ratio, names, asdict),
    }


def _each(
    found: Mapping[str, S], names: Iterable[str], fields: Callable[[S], T]
) -> dict[str, T | None]:
    """Fields by name; None for names that were not found."""
    return {name: fields(found[name]) if name in found else None for name in names}


def _by_grade(group: GroupReport, fields: Callable[[GradeReport], T]) -> dict[str, T]:
    return {grade: fields(report) for grade, report in zip(GRADES, group.grades, strict=True)}


def _grade_fields(report: GradeReport) -> dict[str, Any]:
    return {name: getattr(report, name) for name in ("count", "loss", "recall", "precision")}


def _terms(evaluation: Evaluation) -> str:
    bounds = f"{CONFIDENCE:.0%} interval".replace("%", " %")
    found = evaluation.intervals
    rows = [["", "submission", bounds, "prior", "ratio", bounds]]
    for term in (*TERMS, SCORE):
        ours, theirs = getattr(evaluation.submission, term), getattr(evaluation.prior, term)
        ratio = None if ours is None else ours / theirs
        ranges = [_bounds(found.submission.get(term), 4) if found else "",
                  _bounds(found.ratio.get(term), 3) if found else ""]  # fmt: skip
        rows.append([_TITLES[term], _number(ours, 4), ranges[0],
                     _number(theirs, 4), _number(ratio, 3), ranges[1]])  # fmt: skip
    if found is None:
        rows = [[*row[:2], *row[3:5]] for row in rows]
    return aligned(rows)


def _shown(diagnostics: Diagnostics) -> list[str]:
    """The scored groups, and "all" if there are several."""
    pools = list(diagnostics.groups)
    return pools if len(pools) > 2 else pools[:1]


def _levels(diagnostics: Diagnostics) -> str:
    pools = _shown(diagnostics)
    rows = [["", *(_TITLES[pool] for pool in pools)]]
    for level, losses in diagnostics.levels.items():
        rows.append([level_title(level), *(_number(losses[pool], 4) for pool in pools)])
    return aligned(rows)


def _grades(diagnostics: Diagnostics) -> str:
    header = ["", "", "rows", "loss", "recall", "precision", "cal. error"]
    rows = [[*header, *GRADE_TITLES]]
    for pool in _shown(diagnostics):
        group = diagnostics.groups[pool]
        titles = [_TITLES[pool], "", ""]
        for title, grade, report, counts in zip(
            titles, GRADE_TITLES, group.grades, group.confusion, strict=True
        ):
            figures = [_number(x, 3) for x in (report.loss, report.recall, report.precision)]
            error = _number(report.calibration_error, 4)
            rows.append([title, grade, str(report.count), *figures, error, *map(str, counts)])
        mean = _number(group.calibration_error, 4)
        rows.append(["", "(all three)", str(group.rows), "", "", "", mean, "", "", ""])
    return aligned(rows, names=2)


def _severe(severe: Mapping[str, Mapping[str, SevereReport]]) -> str:
    """Three lines per condition and group; once for spinal, which is both."""
    rows = [["", "", *map(level_title, LEVELS), _TITLES[ALL]]]
    for name, by_level in severe.items():
        if name in _TITLES:
            found = by_level.values()
            rows += [
                [_TITLES[name], "severe/other", *(f"{one.severe}/{one.other}" for one in found)],
                ["", "sensitivity", *(_number(one.sensitivity, 3) for one in found)],
                ["", "specificity", *(_number(one.specificity, 3) for one in found)],
            ]
    return aligned(rows, names=2)


def _bounds(interval: Interval | None, digits: int) -> str:
    return "-" if interval is None else f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
