#!/usr/bin/env python3
"""Is the slice of each labelled foramen and subarticular zone in the view of its side or level?

    python benchmarks/experiments/views_of_labels.py ROOT [--bundle BUNDLE] [--each]

ROOT has the challenge's tables and DICOM files. The discs are those that the spinal detector of
BUNDLE sees; without it, the labelled points of the canal. With ``--each``, every label is listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from rsna_lumbar.runtime import find_studies
from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, LEVELS, SPINAL, SUBARTICULAR
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.dicom.slices import read_slices
from rsna_lumbar.runtime.geometry.discs import Candidate, Discs, fit_discs
from rsna_lumbar.runtime.geometry.slice_plane import SlicePlane, one_frame
from rsna_lumbar.runtime.geometry.views import Views, views_by_position
from rsna_lumbar.runtime.inference.pipeline import decoded_sets, scored
from rsna_lumbar.train.calibration.labelled_peaks import open_for_peaks
from rsna_lumbar.train.dataset.tables import read_tables

GROUP_OF = {condition: group for group in GROUPS for condition in group.conditions}
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
Label = Mapping[Hashable, Any]  # a row of the table of points


@click.command()
@click.argument("root", type=FOLDER)
@click.option("--bundle", type=FOLDER)
@click.option("--each", is_flag=True)
def main(root: Path, bundle: Path | None, each: bool) -> None:
    """Count labels of ROOT whose slice is in the view of their own place, in another, in none."""
    points = read_tables(root).points.to_dict("records")
    labels = [one for one in points if (root / file_of(one)).is_file()]
    planes = {file_of(one): plane_of(root / file_of(one)) for one in labels}
    truth = labelled_points(labels, planes)
    discs = predicted(bundle, root) if bundle else {study: fitted(truth[study]) for study in truth}
    found = {study: one for study, one in discs.items() if one}
    click.echo(f"{len(discs)} studies, {len(found)} with discs")
    say("mean peak of a disc", [one.weight for one in found.values()])
    say("discs seen", [sum(one.seen) for one in found.values()])
    say(
        "from the labelled point, mm",
        [
            float(np.linalg.norm(point - one.centres_mm[LEVELS.index(level)]))
            for study, one in found.items()
            for level, point in truth.get(study, {}).items()
        ],
    )
    for group in (FORAMINAL, SUBARTICULAR):
        counts: Counter[str] = Counter()
        for label in labels:
            plane = planes[file_of(label)]
            if GROUP_OF[label["condition"]] != group or label["study_id"] not in found or not plane:
                continue
            discs_of_study = found[label["study_id"]]
            if not one_frame([plane, discs_of_study]):
                counts["not told"] += 1
                continue
            views = views_by_position(group, [plane], discs_of_study.centres_mm)
            own = views.of_location[group.locations.index((label["condition"], label["level"]))]
            seen = shown_in(views)
            if each:
                place = f"{label['condition']} {label['level']}"
                click.echo(f"{file_of(label)}  {place}  view {seen or 'none'}")
            counts["own" if seen == views.names[own] else "another" if seen else "none"] += 1
        shares = ", ".join(f"{view} {count}" for view, count in counts.most_common())
        click.echo(f"{group.name}, labels by the view that their slice is in: {shares or 'none'}")


def file_of(label: Label) -> str:
    series = f"train_images/{label['study_id']}/{label['series_id']}"
    return f"{series}/{label['instance_number']}.dcm"


def plane_of(file: Path) -> SlicePlane | None:
    return SlicePlane.of(read_slices(file, 32, Preprocessing())[0])


def labelled_points(
    labels: Sequence[Label], planes: Mapping[str, SlicePlane | None]
) -> dict[str, dict[str, Any]]:
    """Study -> level -> (3,) mm, of the points of the canal."""
    found: dict[str, dict[str, Any]] = {}
    for label in labels:
        plane = planes[file_of(label)]
        if GROUP_OF[label["condition"]] == SPINAL and plane:
            point_mm = plane.point_mm(label["x"], label["y"])
            found.setdefault(label["study_id"], {})[label["level"]] = point_mm
    return found


def fitted(points: Mapping[str, Any]) -> Discs | None:
    return fit_discs([[Candidate(points[one], 1.0)] if one in points else [] for one in LEVELS])


def predicted(bundle: Path, root: Path) -> dict[str, Discs | None]:
    found = find_studies(root)
    with open_for_peaks(bundle, "cpu", by_views=True) as opened:
        sets = decoded_sets(opened.bundle, found, workers=0)
        return {one.study_id: one.discs for one in scored(opened, found, sets)}


def shown_in(views: Views) -> str:
    """The view of the only slice; empty if it is in none."""
    return next((n for n, of in zip(views.names, views.slices, strict=True) if of[0]), "")


def say(title: str, values: list[float] | list[int]) -> None:
    """One line with the percentiles of a measure."""
    if not values:
        click.echo(f"{title}: nothing found")
        return
    shares = (f"{np.percentile(values, share):.2f} ({share} %)" for share in (1, 10, 50, 90, 99))
    click.echo(f"{title}: {', '.join(shares)}")


if __name__ == "__main__":
    main()
