"""The official metric of detectors alone and in pairs, divided by the sum and calibrated.

    python benchmarks/experiments/ensembles.py ROOT PREPARED HELDOUT WORK NAME=WEIGHTS...

Each WEIGHTS is a folder of ``rsna-train fit`` on studies of ROOT outside the validation studies
that PREPARED lists. Those calibrate; HELDOUT is scored. The first detectors are paired with each
of the others, by maximum and by mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from experiment import export_bundle, footer, peaks_of, settings_of

from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.core.labels import GROUPS
from rsna_lumbar.runtime.core.postprocess import COMBINATIONS, Combination, combine_detectors

if TYPE_CHECKING:
    from rsna_lumbar.runtime.core.metric import MetricResult
    from rsna_lumbar.train.calibration.labelled_peaks import Chosen, PeakTable

PATH = click.Path(path_type=Path, file_okay=False, exists=True)
TERMS = ("spinal", "foraminal", "subarticular", "any_severe_spinal", "score")


@dataclass(frozen=True, slots=True)
class Seen:
    """Peaks of one choice of detectors."""

    name: str
    validation: PeakTable
    heldout: PeakTable


@click.command()
@click.argument("root", type=PATH)
@click.argument("prepared", type=PATH)
@click.argument("heldout", type=PATH)
@click.argument("work", type=click.Path(path_type=Path, file_okay=False))
@click.argument("detectors", nargs=-1, required=True, metavar="NAME=WEIGHTS...")
def cli(root: Path, prepared: Path, heldout: Path, work: Path, detectors: tuple[str, ...]) -> None:
    """Export, score, calibrate, and print a row for each choice of detectors."""
    from rsna_lumbar.train.calibration.labelled_peaks import all_studies, studies_of_list

    validation = studies_of_list(root, prepared / "val_studies.csv")
    held = all_studies(heldout)
    pairs = [
        (name, Path(folder)) for name, _, folder in (word.partition("=") for word in detectors)
    ]
    bundles = {
        name: export_bundle(work / name, {group.name: folder for group in GROUPS})
        for name, folder in pairs
    }
    alone = [
        Seen(name, peaks_of(bundle, root, validation), peaks_of(bundle, heldout, held))
        for name, bundle in bundles.items()
    ]
    click.echo(f"{'':30} {'plain':>7}  calibrated: {'  '.join(TERMS)}")
    for seen in [*alone, *_pairs(alone)]:
        click.echo(_row(seen, root, heldout, validation, held, bundles[alone[0].name]))
    click.echo(
        f"{len(held.studies)} held-out studies; calibrated on {len(validation.studies)} validation "
        f"studies; {settings_of(pairs[0][1], GROUPS[-1].name)} (spinal: "
        f"{settings_of(pairs[0][1], GROUPS[0].name)})\n{footer()}"
    )


def _pairs(alone: list[Seen]) -> Iterator[Seen]:
    first, *others = alone
    for other in others:
        for combination in COMBINATIONS:
            yield Seen(
                f"{first.name} + {other.name}, {combination}",
                combine(first.validation, other.validation, combination),
                combine(first.heldout, other.heldout, combination),
            )


def combine(one: PeakTable, other: PeakTable, combination: Combination) -> PeakTable:
    """As the runtime combines the detectors of an ensemble."""
    pairs = zip(one.groups, other.groups, strict=True)
    peaks = [combine_detectors(np.stack([a.peaks, b.peaks]), combination) for a, b in pairs]
    groups = tuple(
        replace(group, peaks=combined.astype(np.float64))
        for group, combined in zip(one.groups, peaks, strict=True)
    )
    return replace(one, groups=groups)


def _row(
    seen: Seen, root: Path, heldout: Path, validation: Chosen, held: Chosen, bundle: Path
) -> str:
    from rsna_lumbar.train.calibration.calibrate import calibrate, score_peaks

    before = read_bundle(bundle)
    fitted = calibrate(before, root, validation, seen.validation, aim="metric")
    plain = score_peaks(before, seen.heldout, heldout)
    after = score_peaks(fitted.after, seen.heldout, heldout)
    terms = "  ".join(f"{_term(after, term):>{len(term)}}" for term in TERMS)
    return f"{seen.name:30} {plain.score:7.4f}              {terms}"


def _term(result: MetricResult, term: str) -> str:
    value = getattr(result, term)
    return "-" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    cli()
