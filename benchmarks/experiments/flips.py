"""The effect of flips on sides: the subarticular detector without, with side-safe and naive ones.

    python benchmarks/experiments/flips.py PREPARED WEIGHTS HELDOUT WORK

WEIGHTS holds the three detectors of ``rsna-train fit PREPARED WEIGHTS``, trained without flips.
Two more subarticular detectors are trained with the same options into WORK, with half of the
slices mirrored: once with left and right classes exchanged (``--axial-flip 0.5``), once without,
as ultralytics' own flip does it. Each scores the studies of HELDOUT.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

import click
import numpy as np
from experiment import export_bundle, footer, peaks_of, settings_of
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.labels import GRADE_WEIGHTS, GROUPS, LEVELS, SUBARTICULAR
from rsna_lumbar.runtime.core.metric import weighted_log_loss
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

prepare_third_party("train")  # before the libraries below are imported

from ultralytics.data.dataset import YOLODataset  # noqa: E402

from rsna_lumbar.train.calibration.fit_group import (  # noqa: E402
    crossvalidated_probabilities,
    study_folds,
)
from rsna_lumbar.train.calibration.labelled_peaks import all_studies  # noqa: E402
from rsna_lumbar.train.fitting.fit import TRAINER, FitOptions, fit  # noqa: E402
from rsna_lumbar.train.fitting.trainer import LumbarTrainer  # noqa: E402

SHARE = 0.5
RESAMPLES = 1000
NAIVE = "flips.NaiveTrainer"  # trainers are imported by name, in other processes
PATH = click.Path(path_type=Path, file_okay=False, exists=True)


class NaiveTrainer(LumbarTrainer):
    """ultralytics' own flip: it mirrors slices and does not exchange left and right classes."""

    dataset_class = YOLODataset


@dataclass(frozen=True, slots=True)
class Side:
    """Figures of one detector on one side's rows, each with its standard error over studies.

    Accuracy of the likeliest grade; the same where the two sides of a level have different grades;
    weighted log loss.
    """

    figures: tuple[float, float, float]
    errors: tuple[float, float, float]


@click.command()
@click.argument("prepared", type=PATH)
@click.argument("weights", type=PATH)
@click.argument("heldout", type=PATH)
@click.argument("work", type=click.Path(path_type=Path, file_okay=False))
def cli(prepared: Path, weights: Path, heldout: Path, work: Path) -> None:
    """Train, export and score the three, and print accuracy by side."""
    flipped = {"side-safe": TRAINER, "naive": NAIVE}
    for name, trainer in flipped.items():
        fit(prepared, [SUBARTICULAR], work / name, _options(weights), trainer=trainer)
    detectors = {"off": weights, **{name: work / name for name in flipped}}
    lines = [f"{'flips':10} {'side':5} {'accuracy':>15} {'where apart':>15} {'loss':>15}"]
    for name, folder in detectors.items():
        of_group = {group.name: weights for group in GROUPS} | {SUBARTICULAR.name: folder}
        bundle = export_bundle(work / f"bundle-{name}", of_group)
        for side, found in _sides(bundle, heldout).items():
            figures = zip(found.figures, found.errors, strict=True)
            cells = " ".join(f"{value:7.3f} ± {error:.3f}" for value, error in figures)
            lines.append(f"{name:10} {side:5} {cells}")
    lines += [
        "held-out phantom studies, calibrated, cross-validated by study; accuracy of the likeliest "
        "grade, of all levels and of those whose sides differ; loss weighted 1/2/4; ± standard "
        f"error over studies, by {RESAMPLES} bootstrap samples",
        settings_of(weights, SUBARTICULAR.name),
        footer(),
    ]
    click.echo("\n".join(lines))


def _options(weights: Path) -> FitOptions:
    """The options of the detector without flips, with flips."""
    settings = json.loads((weights / "subarticular.json").read_bytes())["settings"]
    known = {field.name for field in fields(FitOptions)}
    same = {name: value for name, value in settings.items() if name in known}
    return FitOptions(**{**same, "axial_flip": SHARE})


def _sides(bundle: Path, heldout: Path) -> dict[str, Side]:
    """By side. A study's calibration is from other studies, so that no grade is favoured."""
    table = peaks_of(bundle, heldout, all_studies(heldout))
    group = next(one for one in table.groups if one.group is SUBARTICULAR)
    fold_of = study_folds(group.grades)
    given = crossvalidated_probabilities(group.peaks, group.grades, "metric", fold_of)
    sides = np.split(given, 2, axis=1), np.split(group.grades, 2, axis=1)  # (N, 5, 3), (N, 5)
    apart = sides[1][0] != sides[1][1]
    return {
        condition.partition("_")[0]: side_of(probability, grade, apart)
        for condition, probability, grade in zip(SUBARTICULAR.conditions, *sides, strict=True)
    }


def side_of(
    probability: NDArray[np.float64], grade: NDArray[np.int64], apart: NDArray[np.bool_]
) -> Side:
    if grade.shape[1] != len(LEVELS) or (grade < 0).any():
        raise click.ClickException("every level of every held-out study must have a label")
    rng = np.random.default_rng(0)
    samples = rng.integers(0, len(grade), (RESAMPLES, len(grade)))
    drawn = [figures(probability[one], grade[one], apart[one]) for one in samples]
    accuracy, where_apart, loss = np.std(drawn, axis=0).tolist()
    return Side(figures(probability, grade, apart), (accuracy, where_apart, loss))


def figures(
    probability: NDArray[np.float64], grade: NDArray[np.int64], apart: NDArray[np.bool_]
) -> tuple[float, float, float]:
    right = probability.argmax(axis=2) == grade
    weights = np.array(GRADE_WEIGHTS)[grade.ravel()]
    loss = weighted_log_loss(probability.reshape(-1, 3), grade.ravel(), weights)
    return float(right.mean()), float(right[apart].mean()), loss


if __name__ == "__main__":
    cli()
