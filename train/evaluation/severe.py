"""Severe against the other two grades.

    sensitivity  share of the severe rows whose likeliest grade is severe
    specificity  share of the other rows whose likeliest grade is another one

A row is called severe if severe has the largest of the three probabilities; if two are equal, the
milder grade wins. With plain probabilities, severe never wins below 1/3 and always above 1/2.
Probabilities calibrated for the metric are weighted 1/2/4: severe wins if its plain probability
exceeds half of moderate's and a quarter of normal's, so never below 1/7 and always above 1/3. More
severe rows are found, and more other rows are called severe. So compare only submissions that were
calibrated for the same aim.
"""

from __future__ import annotations

from dataclasses import dataclass

from rsna_lumbar.runtime.core.labels import LEVELS, LOCATIONS, SEVERE
from rsna_lumbar.runtime.core.metric import GradedAnswers, graded_rows
from rsna_lumbar.train.evaluation.diagnostics import ALL, confusion_matrix, share


@dataclass(frozen=True, slots=True)
class SevereReport:
    """Counts over the graded rows of some locations."""

    severe: int  # rows labelled severe
    other: int  # rows with another label
    sensitivity: float | None  # None without a severe row
    specificity: float | None  # None without another row


def severe_reports(answers: GradedAnswers) -> dict[str, dict[str, SevereReport]]:
    """Condition or group (its conditions pooled) -> level or "all" -> report."""
    pools: dict[str, tuple[str, ...]] = {}
    for group in answers.groups:
        pools |= {condition: (condition,) for condition in group.conditions}
        pools[group.name] = group.conditions
    return {
        name: {level: _report(answers, conditions, level) for level in (*LEVELS, ALL)}
        for name, conditions in pools.items()
    }


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
