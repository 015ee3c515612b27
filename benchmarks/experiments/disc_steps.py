#!/usr/bin/env python3
"""How the challenge's labelled discs are spaced: the facts that the fit of discs rests on.

    python benchmarks/experiments/disc_steps.py Spinal_Canal_Stenosis.csv

docs/real_data.md says where the table is. Points are in pixels of one slice, so steps are compared
inside a series only. Series are counted whose five levels go down.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsna_lumbar.runtime.geometry.discs import PROPORTIONS, SPREAD

PERCENTILES = (50, 90, 99, 99.8)
KEY = ["series_id", "level"]


@click.command()
@click.argument("table", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def cli(table: Path) -> None:
    """Print proportions, spread and bend of the steps from disc to disc in TABLE."""
    points = pd.read_csv(table).drop_duplicates(KEY)
    columns, rows = (points.pivot(index="series_id", columns="level", values=v) for v in "xy")
    whole = columns.notna().all(axis=1)
    steps = np.diff(np.stack([columns[whole], rows[whole]], axis=2), axis=1)  # (n, 4, 2)
    down = (steps[:, :, 1] > 0).all(axis=1)
    steps = steps[down]
    lengths = np.linalg.norm(steps, axis=2)
    relative = lengths / np.exp(np.log(lengths).mean(axis=1, keepdims=True))
    click.echo(f"{whole.sum()} series with five levels, {down.sum()} of them from top to bottom")
    click.echo(f"proportions {np.median(relative, axis=0).round(2)}, in use {PROPORTIONS}")
    say("spread of log(step / proportion)", np.log(lengths / PROPORTIONS).std(axis=1))
    click.echo(f"  in use {SPREAD}")
    angles = np.degrees(np.arctan2(steps[:, :, 0], steps[:, :, 1]))
    say("largest bend, degrees", np.abs(np.diff(angles, axis=1)).max(axis=1))


def say(title: str, values: NDArray[np.float64]) -> None:
    """One line with the percentiles of a measure."""
    shares = (f"{np.percentile(values, share):.2f} ({share} %)" for share in PERCENTILES)
    click.echo(f"{title}: {', '.join(shares)}")


if __name__ == "__main__":
    cli()
