"""The effect of excluding slices by position on the metric and on the time of inference.

    python benchmarks/experiments/relevance.py [ROOT] [--bundle BUNDLE] [--rounds N]

ROOT holds labelled studies that the bundle's detectors were not trained on; without it, the 200
held-out phantom studies of ``benchmarks/make_demo`` are drawn, for the bundle that is shipped.
Every set is decoded once; then all slices, or the remaining ones, are scored. Besides the reach of
``runtime/decode/slice_selection.py``, others are tried, to show its distance from doing harm.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import click
import numpy as np
from experiment import footer

from rsna_lumbar.benchmarks.harness.timing import Samples, interleaved, ratios, warm_up
from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.core.label_table import grade_table, read_csv
from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, SPINAL, Group
from rsna_lumbar.runtime.core.metric import GradedAnswers, MetricResult, score_answers
from rsna_lumbar.runtime.decode.slice_selection import relevant, within
from rsna_lumbar.runtime.decode.slice_sets import SliceSet
from rsna_lumbar.runtime.demo import demo_bundle
from rsna_lumbar.runtime.dicom.slices import Slice
from rsna_lumbar.runtime.inference.scores import StudyScore
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.runtime.studies.study import Inventory
from rsna_lumbar.train.dataset.tables import LABELS, SERIES
from rsna_lumbar.train.phantom import PhantomOptions, make_phantom

HELD_OUT = PhantomOptions(studies=200, seed=2, matrix_px=160)  # as make_demo draws them
TERMS = ("spinal", "foraminal", "subarticular", "any_severe_spinal", "score")
Select = Callable[[Sequence[Slice], Group], Sequence[Slice]]


def _all(slices: Sequence[Slice], _: Group) -> Sequence[Slice]:
    return slices


def _only(group: Group, reach_mm: float) -> Select:
    """Another reach for one group, all slices of the others."""
    return lambda slices, of: within(slices, reach_mm) if of == group else slices


TIMED: Mapping[str, Select] = {"all": _all, "relevant": relevant}
OTHERS: Mapping[str, Select] = {
    **{f"spinal within {mm} mm": _only(SPINAL, mm) for mm in (20, 15)},
    **{f"foraminal within {mm} mm": _only(FORAMINAL, mm) for mm in (25, 20, 16)},
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One choice of slices."""

    name: str
    slices: tuple[int, ...]  # by group, in the order of GROUPS
    metric: MetricResult
    rows_changed: int  # whose likeliest grade is another than with all slices
    largest_change: float  # of a probability


@click.command()
@click.argument(
    "root", type=click.Path(path_type=Path, file_okay=False, exists=True), required=False
)
@click.option("--bundle", type=click.Path(path_type=Path, file_okay=False), default=demo_bundle)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Of the runtime; every usable core.")
def cli(root: Path | None, bundle: Path, rounds: int, threads: int | None) -> None:
    """Print a row for each choice of slices, and the time that the choice in use saves."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        Scorer(bundle, precision="fp32", device="cpu", threads=threads) as scorer,
    ):
        if missing := scorer.bundle.missing_groups:
            raise click.UsageError(f"{bundle} has no {missing[0].name} detector; name a whole one")
        if root is None:
            root = Path(scratch) / "heldout"
            make_phantom(root, HELD_OUT, workers=2)
        found = find_studies(root, root / SERIES)
        sets = list(scorer.decoded(found))
        choices = {name: _chosen(sets, select) for name, select in {**TIMED, **OTHERS}.items()}
        for line in _table(scorer, found, choices, root):
            click.echo(line)
        click.echo(_times(scorer, found, choices, rounds))
    click.echo(f"{scorer.backend} {scorer.precision}, batch {scorer.batch_size}; {footer()}")


def _chosen(sets: Sequence[SliceSet], select: Select) -> list[SliceSet]:
    """The same sets with the remaining slices of each series, as the runtime selects them."""
    return [replace(one, slices=tuple(_left(one, select))) for one in sets]


def _left(one: SliceSet, select: Select) -> Iterator[Slice]:
    for _, of_series in groupby(one.slices, key=lambda each: each.file.parent):
        yield from select(tuple(of_series), one.request.group)


def _table(
    scorer: Scorer, found: Inventory, choices: Mapping[str, list[SliceSet]], root: Path
) -> Iterator[str]:
    names = "".join(f"{group.name:>13}" for group in GROUPS)
    yield f"{'slices scored':24}{names}  {'  '.join(TERMS)}  changed rows  largest change"
    reference = _probabilities(list(scorer.scored(found, choices["all"])))
    for name, sets in choices.items():
        scores = list(scorer.scored(found, sets))
        yield _row(_outcome(name, sets, scores, reference, root))
    yield (
        f"{len(found.studies)} studies; changed rows: of {reference[..., 0].size}, whose likeliest "
        "grade is another than with all slices; largest change: of a probability"
    )


def _outcome(
    name: str,
    sets: Sequence[SliceSet],
    scores: Sequence[StudyScore],
    reference: np.ndarray,
    root: Path,
) -> Outcome:
    probability = _probabilities(scores)
    studies = tuple(one.study_id for one in scores)
    epsilon = np.finfo(np.float64).eps
    grades = grade_table(read_csv(root / LABELS), studies)
    answers = GradedAnswers(studies, grades, np.clip(probability, epsilon, 1 - epsilon))
    return Outcome(
        name=name,
        slices=tuple(
            sum(len(one.slices) for one in sets if one.request.group == group) for group in GROUPS
        ),
        metric=score_answers(answers),
        rows_changed=int((probability.argmax(axis=2) != reference.argmax(axis=2)).sum()),
        largest_change=float(np.abs(probability - reference).max()),
    )


def _probabilities(scores: Sequence[StudyScore]) -> np.ndarray:
    """(studies, 25, 3), columns as LOCATIONS, which is group by group."""
    return np.stack([np.concatenate([g.probability for g in one.groups]) for one in scores])


def _row(one: Outcome) -> str:
    counts = "".join(f"{count:13d}" for count in one.slices)
    values = [getattr(one.metric, term) for term in TERMS]
    terms = "  ".join(
        f"{'-' if value is None else format(value, '.4f'):>{len(term)}}"
        for term, value in zip(TERMS, values, strict=True)
    )
    return f"{one.name:24}{counts}  {terms}  {one.rows_changed:12d}  {one.largest_change:14.4f}"


def _times(
    scorer: Scorer, found: Inventory, choices: Mapping[str, list[SliceSet]], rounds: int
) -> str:
    def scoring(sets: list[SliceSet]) -> Callable[[], object]:
        return lambda: list(scorer.scored(found, sets))

    timed = {name: scoring(choices[name]) for name in TIMED}
    warm_up(timed.values())
    taken = interleaved(timed, rounds=rounds)
    gain = ratios(taken["all"], taken["relevant"])
    medians = ", ".join(f"{name} {_seconds(seconds)}" for name, seconds in taken.items())
    return (
        f"inference alone: {medians}; gain {gain.median:.3f} ({gain.low:.3f} to {gain.high:.3f}), "
        f"{rounds} rounds"
    )


def _seconds(seconds: Samples) -> str:
    return f"{np.median(seconds):.2f} s"


if __name__ == "__main__":
    cli()
