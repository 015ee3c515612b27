#!/usr/bin/env python3
"""Accuracy of a detector: the level of a labelled place, and the grade at a known level.

    python benchmarks/experiments/real_slices/levels.py BUNDLE PREPARED GROUP

Every validation slice of PREPARED is scored alone. The level is the one whose highest peak, over
the three grades of the labelled side, is the highest; the grade is that of the highest peak of the
labelled level.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from rsna_lumbar.runtime import read_bundle
from rsna_lumbar.runtime.backends import SessionSettings
from rsna_lumbar.runtime.core.labels import GRADES, GROUP_BY_NAME, LEVELS
from rsna_lumbar.runtime.inference.sessions import open_model

BATCH = 16
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("bundle", type=FOLDER)
@click.argument("prepared", type=FOLDER)
@click.argument("group", type=click.Choice(list(GROUP_BY_NAME)))
def main(bundle: Path, prepared: Path, group: str) -> None:
    places = prepared / group
    images = sorted((places / "images" / "val").glob("*.png"))
    detector = next(one for one in read_bundle(bundle).detectors if one.group.name == group)
    sides = len(detector.group.conditions)
    levels = np.zeros((len(LEVELS), len(LEVELS)), int)
    grades = np.zeros((len(GRADES), len(GRADES)), int)
    with open_model(bundle, detector.models[0], detector, SessionSettings("cpu", 1)) as session:
        for start in range(0, len(images), BATCH):
            some = images[start : start + BATCH]
            squares = np.stack([np.asarray(Image.open(image).convert("L")) for image in some])
            peaks = session.start(squares, np.eye(len(some), dtype=np.bool_))().peak
            for image, peak in zip(some, peaks, strict=True):
                by_place = peak.reshape(sides, len(LEVELS), len(GRADES))
                lines = (places / "labels" / "val" / f"{image.stem}.txt").read_text().splitlines()
                for label in (int(line.split()[0]) for line in lines):
                    side, level, grade = np.unravel_index(label, by_place.shape)
                    levels[level, by_place[side].max(axis=1).argmax()] += 1
                    grades[grade, by_place[side, level].argmax()] += 1
    for title, names, counts in (("level", LEVELS, levels), ("grade", GRADES, grades)):
        right = np.trace(counts) / max(counts.sum(), 1)
        click.echo(f"{title} right: {right:.3f} of {counts.sum()}; rows labelled, columns told")
        for name, row in zip(names, counts, strict=True):
            click.echo(f"{name:12}" + "".join(f"{count:6d}" for count in row))


if __name__ == "__main__":
    main()
