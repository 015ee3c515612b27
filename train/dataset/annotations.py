"""Tables -> the labelled points of one group, and the labels and points that cannot be used.

A point says where a location was graded; train.csv says how. A point is used if its location has a
grade and it lies on a series of the kind that the group's detector reads.
"""

from __future__ import annotations

from enum import StrEnum

import pandas as pd

from rsna_lumbar.runtime.core.labels import GRADES, Group
from rsna_lumbar.train.dataset.tables import Tables

_LOCATION = ["study_id", "condition", "level"]
_SLICE = ["study_id", "series_id", "instance_number"]


class LeftOut(StrEnum):
    """Why a label or a point is not in the data set."""

    LABEL_WITHOUT_POINT = "label_without_point"
    POINT_WITHOUT_LABEL = "point_without_label"  # an empty cell, or a study not in train.csv
    POINT_WITHOUT_POSITION = "point_without_position"  # instance number, x or y is not a number
    SERIES_NOT_IN_TABLE = "series_not_in_table"
    SERIES_OF_ANOTHER_KIND = "series_of_another_kind"  # such as a spinal point on a T1 series
    FILE_MISSING = "file_missing"
    FILE_UNREADABLE = "file_unreadable"
    POINT_OUTSIDE_IMAGE = "point_outside_image"
    NO_PIXEL_SPACING = "no_pixel_spacing"  # needed for boxes in millimetres
    MASKED = "masked_beside_severe"
    NONE_SEVERE = "none_severe_dropped"
    BACKGROUND = "none_severe_background"  # the image is in the data set, without a box


LEFT_OUT_COLUMNS = ("reason", *_SLICE, "condition", "level", "grade")


def annotate(tables: Tables, group: Group) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join labels, points and series of one group.

    Returns:
        Points to use (study_id, series_id, instance_number, condition, level, grade, x, y,
        class_index into ``group.classes``), sorted by study, series, instance and class; and what
        was left out (the columns of LEFT_OUT_COLUMNS; grade is NA if there is no label).
    """
    labels = tables.labels[tables.labels["condition"].isin(group.conditions)]
    points = tables.points[tables.points["condition"].isin(group.conditions)]
    joined = points.merge(labels, on=_LOCATION, how="left").merge(
        tables.series, on=["study_id", "series_id"], how="left"
    )
    joined["reason"] = _reasons(joined, group)
    marked = pd.MultiIndex.from_frame(points[_LOCATION])
    pointless = labels[~pd.MultiIndex.from_frame(labels[_LOCATION]).isin(marked)]
    kept = joined[joined["reason"] == ""]
    left_out = pd.concat(
        [joined[joined["reason"] != ""], pointless.assign(reason=LeftOut.LABEL_WITHOUT_POINT)]
    )
    return _with_class(kept, group), left_out.reindex(columns=list(LEFT_OUT_COLUMNS))


def _reasons(joined: pd.DataFrame, group: Group) -> pd.Series[str]:
    """The first reason against each point, or ''."""
    unplaced = joined[["instance_number", "x", "y"]].isna().any(axis=1)
    reason = pd.Series("", index=joined.index, dtype=object)
    for name, applies in (
        (LeftOut.POINT_WITHOUT_LABEL, joined["grade"].isna()),
        (LeftOut.SERIES_NOT_IN_TABLE, joined["kind"].isna()),
        (LeftOut.SERIES_OF_ANOTHER_KIND, joined["kind"] != group.series_kind),
        (LeftOut.POINT_WITHOUT_POSITION, unplaced),
    ):
        reason[applies & (reason == "")] = name.value
    return reason


def _with_class(points: pd.DataFrame, group: Group) -> pd.DataFrame:
    place = {location: index for index, location in enumerate(group.locations)}
    locations = zip(points["condition"], points["level"], strict=True)
    numbered = points.astype({"instance_number": "int64", "grade": "int64"})
    first = pd.Series([place[one] * len(GRADES) for one in locations], points.index, "int64")
    numbered["class_index"] = first + numbered["grade"]
    columns = [*_SLICE, "condition", "level", "grade", "x", "y", "class_index"]
    return numbered[columns].sort_values([*_SLICE, "class_index"], ignore_index=True)
