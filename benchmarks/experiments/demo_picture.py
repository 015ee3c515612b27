#!/usr/bin/env python3
"""The README's picture: where the demo's detectors saw the grades of one study.

    rsna-run --demo --output submission.csv --evidence evidence.jsonl
    python benchmarks/experiments/demo_picture.py evidence.jsonl docs/demo.png

One slice per series type: of the slices that hold the peak of a location's likeliest grade, the one
with the most. Each mark is such a peak, with its level, grade and probability.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click
import matplotlib
import numpy as np
import pydicom

from rsna_lumbar.runtime.core.labels import GRADES, GROUP_BY_NAME
from rsna_lumbar.runtime.demo import demo_studies

matplotlib.use("Agg")
from matplotlib import patheffects, pyplot

COLOURS = dict(zip(GRADES, ("#4dd07d", "#ffc145", "#ff5d5d"), strict=True))
OUTLINE = [patheffects.withStroke(linewidth=2, foreground="black")]
PANEL_INCHES = 4.2
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("evidence", type=FILE)
@click.argument("picture", type=FILE)
@click.option("--study", type=int, default=0, help="Which study of the file, counted from 0.")
def cli(evidence: Path, picture: Path, study: int) -> None:
    """Draw one study of EVIDENCE, scored by rsna-run --demo, into PICTURE."""
    records = [json.loads(line) for line in evidence.read_text().splitlines()]
    ids = list(dict.fromkeys(record["study_id"] for record in records))
    of_study = [record for record in records if record["study_id"] == ids[study]]
    figure, panels = pyplot.subplots(
        1, len(of_study), figsize=(PANEL_INCHES * len(of_study), PANEL_INCHES * 1.05)
    )
    for panel, record in zip(panels, of_study, strict=True):
        draw(panel, record)
    figure.tight_layout()
    figure.savefig(picture, dpi=100, bbox_inches="tight", facecolor="white")
    click.echo(picture)


def draw(panel: Any, record: dict[str, Any]) -> None:
    """One series type: its slice and the marks on it."""
    marks = [likeliest(location) for location in record["locations"]]
    file = Counter(mark["file"] for mark in marks).most_common(1)[0][0]
    pixels = pydicom.dcmread(demo_studies() / file).pixel_array
    panel.imshow(pixels, cmap="gray", vmax=np.percentile(pixels, 99.5))
    group = GROUP_BY_NAME[record["group"]]
    panel.set_title(f"{group.series_kind}: one of {record['slices']} slices")
    panel.set_axis_off()
    middle = pixels.shape[1] / 2
    for mark in marks:
        if mark["file"] != file:
            continue
        colour = COLOURS[mark["grade"]]
        panel.plot(mark["x"], mark["y"], "o", mec=colour, mfc="none", ms=9, mew=2)
        right = mark["x"] >= middle
        panel.annotate(
            f"{mark['level']}  {mark['grade'].replace('_', '/')} {mark['probability']:.0%}",
            (mark["x"], mark["y"]),
            xytext=(10 if right else -10, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            color=colour,
            fontsize=8,
            fontweight="bold",
            path_effects=OUTLINE,
        )


def likeliest(location: dict[str, Any]) -> dict[str, Any]:
    """The likeliest grade of a location, and the place of its peak."""
    best = int(np.argmax(location["probability"]))
    return {
        **location["from"][best],
        "level": location["level"].upper().replace("_", "/"),
        "grade": GRADES[best],
        "probability": location["probability"][best],
    }


if __name__ == "__main__":
    cli()
