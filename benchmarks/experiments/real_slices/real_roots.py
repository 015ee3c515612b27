#!/usr/bin/env python3
"""Makes roots in the challenge's layout from public copies of its slices.

    python benchmarks/experiments/real_slices/real_roots.py sagittal-t1 PICTURES TABLES OUT
    python benchmarks/experiments/real_slices/real_roots.py axial-t2 PICTURES TABLES OUT

docs/real_data.md names the repositories of PICTURES and TABLES, and what the copies lack. The
challenge's terms govern the images: do not publish the output, nor weights trained on it.

``sagittal-t1`` reads whole slices of 250 x 250 pixels, one for each foraminal label, with study,
condition and level in their names. They were stretched to a square, so points are scaled by the
true sizes in ``sagittal_t1_sizes.csv`` beside this file. ``axial-t2`` reads crops around one disc
each; ``axial_with_box_df.csv`` of the same repository has their places in the slices.

Headers are those of the challenge's files. Unknown positions are invented: 4 mm between instances,
with side and order of levels from the labels of the series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import FORAMINAL, SUBARTICULAR, Group
from rsna_lumbar.train.phantom.acquisition import Series, Slice
from rsna_lumbar.train.phantom.anatomy.plane import Plane
from rsna_lumbar.train.phantom.dicom_files import Header, write_slice

KEY = ["study_id", "series_id", "instance_number"]
COLUMNS = [*KEY, "condition", "level", "x", "y"]
POINT_TABLES = (
    "Neural_Foraminal_Narrowing.csv",
    "Spinal_Canal_Stenosis.csv",
    "Subarticular_Stenosis.csv",
)
SIZES = Path(__file__).with_name("sagittal_t1_sizes.csv")
BOXES = "axial_with_box_df.csv"
GAP_MM = 4.0
PIXEL_MM = 0.7
COPY_PX = 250  # rows and columns of a sagittal copy

# Where the column index and the row index grow, patient coordinates LPS.
SAGITTAL = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0]])
AXIAL = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

PATH = click.Path(path_type=Path, file_okay=False, exists=True)
Grey = NDArray[np.uint8]  # (rows, columns)
Place = Callable[[int], float]  # instance number -> millimetres
Record = dict[Any, Any]  # a row of a table


@click.command()
@click.argument("plane", type=click.Choice(["sagittal-t1", "axial-t2"]))
@click.argument("pictures", type=PATH)
@click.argument("tables", type=PATH)
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
def cli(plane: str, pictures: Path, tables: Path, out: Path) -> None:
    """Write OUT: tables, and train_images/STUDY/SERIES/INSTANCE.dcm."""
    points = pd.concat([pd.read_csv(tables / name) for name in POINT_TABLES])[COLUMNS]
    files = {path.name: path for path in pictures.rglob("*.png")}
    if plane == "sagittal-t1":
        group, found = FORAMINAL, write_sagittal(files, points, out)
    else:
        boxes = next(pictures.rglob(BOXES), None)
        if boxes is None:
            raise DataError(f"{pictures} holds no {BOXES}; export the folder above the pictures")
        group, found = SUBARTICULAR, write_axial(files, points, pd.read_csv(boxes), out)
    if found.empty:
        raise DataError(f"none of the labelled slices is below {pictures}; is it the right export?")
    write_tables(tables, out, found, group)
    slices = len(found[KEY].drop_duplicates())
    click.echo(f"{out}: {found.study_id.nunique()} studies, {slices} slices, {len(found)} points")


def write_sagittal(files: dict[str, Path], points: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Write the slices of which there is a copy; the points in pixels of the copies."""
    points = points[points.condition.str.contains("Foraminal")]
    points = points.merge(pd.read_csv(SIZES), on="series_id")
    names = points.condition + "_" + points.level.str.replace("/", "_")
    names = points.study_id.astype(str) + "_" + names.str.lower().str.replace(" ", "_") + ".png"
    points = points.assign(
        file=names, x=points.x * COPY_PX / points["columns"], y=points.y * COPY_PX / points.rows
    )
    points = points[points.file.isin(set(files))]
    for _, of_series in points.groupby(KEY[:2]):
        at_mm = millimetres_left(of_series)
        for one in of_series.drop_duplicates("instance_number").to_dict("records"):
            grey = np.asarray(Image.open(files[one["file"]]).convert("L"))
            origin = np.array([at_mm(one["instance_number"]), 0.0, 0.0])
            write(out, one, FORAMINAL, grey, origin, SAGITTAL)
    return points


def write_axial(
    files: dict[str, Path], points: pd.DataFrame, boxes: pd.DataFrame, out: Path
) -> pd.DataFrame:
    """Write the crops; the points of their slices that lie in them, in pixels of the crops."""
    points = points[points.condition.str.contains("Subarticular")]
    found = list(_crops(files, points, boxes, out))
    return pd.concat(found) if found else points[:0]


def _crops(
    files: dict[str, Path], points: pd.DataFrame, boxes: pd.DataFrame, out: Path
) -> Iterator[pd.DataFrame]:
    of_slice = dict(list(points.groupby(KEY)))
    for _, of_series in boxes.groupby(KEY[:2]):
        at_mm = millimetres_up(of_series)
        for box in of_series.to_dict("records"):
            ids = tuple(box[name] for name in KEY)
            file = files.get("___".join(map(str, ids)) + ".png")
            if file is None:
                continue
            # Three slices are the channels of a copy; the middle one is the one that is named.
            grey = np.asarray(Image.open(file).convert("RGB"))[:, :, 1]
            origin = np.array([0.0, 0.0, at_mm(box["instance_number"])])
            write(out, box, SUBARTICULAR, grey, origin, AXIAL)
            marked = of_slice.get(ids)
            if marked is not None:
                left, top = crop_corner(box)
                marked = marked.assign(x=marked.x - left, y=marked.y - top)
                rows, columns = grey.shape
                yield marked[marked.x.between(0, columns - 1) & marked.y.between(0, rows - 1)]


def crop_corner(box: Record) -> tuple[int, int]:
    """Column and row in the slice of a crop's first pixel.

    The crops reach half a width beyond a box at both sides, one height above it and one below it.
    """
    left, right, top, bottom = (box[name] for name in ("x_min", "x_max", "y_min", "y_max"))
    return max(0, int(left - (right - left) / 2)), max(0, int(top - (bottom - top)))


def millimetres_left(points: pd.DataFrame) -> Place:
    """Place of a sagittal slice: towards the patient's left if its labels are of the left."""
    side = points.condition.str.split().str[0]
    left, right = (points.instance_number[side == name].mean() for name in ("Left", "Right"))
    # Of one side only: three slices from the midline.
    left = right + 6 if np.isnan(left) else left
    right = left - 6 if np.isnan(right) else right
    sign, middle = (-1.0 if left < right else 1.0), (left + right) / 2
    return lambda number: float(sign * GAP_MM * (number - middle))


def millimetres_up(boxes: pd.DataFrame) -> Place:
    """Place of an axial slice, so that L1 is above S1."""
    numbers, levels = boxes.instance_number, boxes.pred_level
    rises = numbers.nunique() > 1 and np.corrcoef(numbers, levels)[0, 1] < 0
    return lambda number: float((GAP_MM if rises else -GAP_MM) * number)


def write(
    out: Path,
    ids: Record,
    group: Group,
    grey: Grey,
    origin_mm: NDArray[np.float64],
    directions: NDArray[np.float64],
) -> None:
    """One file. ``ids`` holds study_id, series_id and instance_number."""
    study, series, number = (int(ids[name]) for name in KEY)
    header = Header(study, f"2.25.{study}", "20240503", "120000.000000")
    along_row, along_column = directions
    one = Slice(number, Plane(origin_mm, along_row, along_column, PIXEL_MM, *grey.shape))
    path = out / "train_images" / str(study) / str(series) / f"{number}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    of_series = Series(series, group.series_kind, GAP_MM, (one,))
    write_slice(path, grey.astype(np.uint16), header, of_series, one)


def write_tables(source: Path, out: Path, points: pd.DataFrame, group: Group) -> None:
    """The challenge's three, of the studies that are there."""
    points[COLUMNS].to_csv(out / "train_label_coordinates.csv", index=False)
    grades = pd.read_csv(source / "train.csv")
    grades[grades.study_id.isin(points.study_id)].to_csv(out / "train.csv", index=False)
    series = points[KEY[:2]].drop_duplicates().assign(series_description=group.series_kind)
    series.to_csv(out / "train_series_descriptions.csv", index=False)


if __name__ == "__main__":
    try:
        cli(standalone_mode=True)
    except DataError as error:
        raise SystemExit(f"Error: {error}") from error
