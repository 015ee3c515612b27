"""An evaluation as text: a table for people, an object for programs."""

from __future__ import annotations

import json
from dataclasses import asdict

from rsna_lumbar.runtime.labels import GRADE_TITLES, GRADES, LEVELS, level_title
from rsna_lumbar.runtime.text_table import aligned
from rsna_lumbar.train.diagnostics import BINS, Diagnostics, GradeReport, GroupReport
from rsna_lumbar.train.evaluate import Evaluation

_TERMS = {
    "spinal": "Spinal",
    "foraminal": "Foraminal",
    "subarticular": "Subarticular",
    "any_severe_spinal": "Any severe spinal",
    "score": "Score (mean)",
}
_POOLS = {
    "spinal": "Spinal",
    "foraminal": "Foraminal",
    "subarticular": "Subarticular",
    "all": "All",
}
NOT_CALIBRATED = (
    "The metric's best answer is 1/2/4 times the probabilities: what scores best is not calibrated."
)


def as_table(evaluation: Evaluation) -> str:
    """The terms beside the prior's; losses by level; figures by group and labelled grade."""
    parts = [
        _terms(evaluation),
        "\n".join([_size(evaluation), *evaluation.notes]),
        "Weighted log loss by level\n" + _levels(evaluation.diagnostics),
        f"By labelled grade; calibration error over {BINS} bins; at the right, rows by likeliest "
        "grade\n" + _grades(evaluation.diagnostics) + f"\n{NOT_CALIBRATED}",
    ]
    return "\n\n".join(parts)


def as_json(evaluation: Evaluation) -> str:
    """The same for programs.

    Top level: ``score``, ``spinal``, ``foraminal``, ``subarticular``, ``any_severe_spinal`` (null
    where the term does not exist); ``prior`` (the same five), ``prior_from``, ``ratio``,
    ``studies``, ``rows`` (graded ones), ``ignored_rows``, ``notes``; ``per_level`` (level, then
    group or ``all``: loss), ``per_grade`` (group, then grade: count, loss, recall, precision),
    ``calibration_error`` (group, then ``mean`` and each grade), ``confusion`` (group: rows by
    labelled, columns by likeliest grade), ``reliability`` (group, then grade: ten bins with
    count, mean_probability, share). Definitions: :mod:`rsna_lumbar.train.diagnostics`.
    """
    groups = evaluation.diagnostics.groups
    fields = {
        **asdict(evaluation.submission),
        "prior": asdict(evaluation.prior),
        "prior_from": evaluation.prior_from,
        "ratio": evaluation.ratio,
        "studies": evaluation.studies,
        "rows": groups["all"].rows,
        "ignored_rows": evaluation.ignored,
        "notes": list(evaluation.notes),
        "per_level": evaluation.diagnostics.levels,
        "per_grade": {
            name: {
                grade: {
                    "count": report.count,
                    "loss": report.loss,
                    "recall": report.recall,
                    "precision": report.precision,
                }
                for grade, report in _by_grade(group)
            }
            for name, group in groups.items()
        },
        "calibration_error": {
            name: {
                "mean": group.calibration_error,
                **{grade: report.calibration_error for grade, report in _by_grade(group)},
            }
            for name, group in groups.items()
        },
        "confusion": {name: group.confusion for name, group in groups.items()},
        "reliability": {
            name: {
                grade: [asdict(found) for found in report.reliability]
                for grade, report in _by_grade(group)
            }
            for name, group in groups.items()
        },
    }
    return json.dumps(fields, indent=2, allow_nan=False)


def _by_grade(group: GroupReport) -> list[tuple[str, GradeReport]]:
    return list(zip(GRADES, group.grades, strict=True))


def _terms(evaluation: Evaluation) -> str:
    rows = [["", "submission", "prior", "ratio"]]
    for term, title in _TERMS.items():
        ours, theirs = getattr(evaluation.submission, term), getattr(evaluation.prior, term)
        ratio = None if ours is None else ours / theirs
        rows.append([title, _number(ours, 4), _number(theirs, 4), _number(ratio, 3)])
    return aligned(rows)


def _size(evaluation: Evaluation) -> str:
    rows = evaluation.diagnostics.groups["all"].rows
    return (
        f"{evaluation.studies} studies, {rows} graded rows; "
        f"weighted class prior of {evaluation.prior_from}."
    )


def _levels(diagnostics: Diagnostics) -> str:
    rows = [["", *_POOLS.values()]]
    for level in LEVELS:
        losses = diagnostics.levels[level]
        rows.append([level_title(level), *(_number(losses[pool], 4) for pool in _POOLS)])
    return aligned(rows)


def _grades(diagnostics: Diagnostics) -> str:
    header = ["", "", "rows", "loss", "recall", "precision", "cal. error"]
    rows = [[*header, *GRADE_TITLES]]
    for pool, title in _POOLS.items():
        group = diagnostics.groups[pool]
        for index, (grade, report) in enumerate(zip(GRADE_TITLES, group.grades, strict=True)):
            rows.append(
                [
                    "" if index else title,
                    grade,
                    str(report.count),
                    *(_number(x, 3) for x in (report.loss, report.recall, report.precision)),
                    _number(report.calibration_error, 4),
                    *map(str, group.confusion[index]),
                ]
            )
        mean = _number(group.calibration_error, 4)
        rows.append(["", "(all three)", str(group.rows), "", "", "", mean, "", "", ""])
    return aligned(rows, names=2)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
