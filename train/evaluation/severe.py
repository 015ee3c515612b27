"""Severe against the other two grades: the share found, and that of the others left alone.

    sensitivity  share of the severe rows whose likeliest grade is severe
    specificity  share of the other rows whose likeliest grade is another one

The threshold is the likeliest grade: a row is called severe where that has the largest of the three
probabilities; of two that tie, the milder counts. Of plain probabilities that is never below 1/3
and always above 1/2. Probabilities that are calibrated for the metric are weighted 1/2/4: with them
severe is the likeliest where its plain probability exceeds half of moderate's and a quarter of
normal's. That is never below a plain probability of 1/7 and always above 1/3: more severe rows are
found, and more others called severe. So compare submissions that were calibrated for the same aim.
"""

from __future__ import annotations

from dataclasses import dataclass

from rsna_lumbar.runtime.core.labels import LEVELS, LOCATIONS, SEVERE, Group
from rsna_lumbar.runtime.core.metric import GradedAnswers, graded_rows
from rsna_lumbar.train.evaluation.diagnostics import ALL, confusion_matrix, share


@dataclass(frozen=True, slots=True)
class SevereReport:
    """The graded rows of some locations."""

    severe: int  # rows labelled so
    other: int  # rows labelled otherwise
    sensitivity: float | None  # None without a severe row
    specificity: float | None  # None without another row


def severe_reports(answers: GradedAnswers) -> dict[str, dict[str, SevereReport]]:
    """Condition or group (its conditions pooled) -> level or "all" -> report.

    Only of the answers' groups.
    """
    return {
        name: {level: _report(answers, conditions, level) for level in (*LEVELS, ALL)}
        for group in answers.groups
        for name, conditions in _pools(group).items()
    }


def _pools(group: Group) -> dict[str, tuple[str, ...]]:
    each = {condition: (condition,) for condition in group.conditions}
    return {**each, group.name: group.conditions}


def _report(answers: GradedAnswers, conditions: tuple[str, ...], level: str) -> SevereReport:
    columns = [
        column
        for column, (condition, at) in enumerate(LOCATIONS)
        if condition in conditions and level in (at, ALL)
    ]
    counts = confusion_matrix(*graded_rows(answers, columns))
    severe, told, right = counts[SEVERE].sum(), counts[:, SEVERE].sum(), counts[SEVERE, SEVERE]
    other = counts.sum() - severe
    return SevereReport(
        severe=int(severe),
        other=int(other),
        sensitivity=share(right, severe),
        specificity=share(other - (told - right), other),
    )
