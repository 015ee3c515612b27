"""Tables -> the labelled points of one group, and what had to be left out.

A point says where a location was graded, train.csv says how. A point counts where its location
has a grade and where it lies on the kind of series that the group is read from.
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
    POINT_WITHOUT_POSITION = "point_without_position"  # instance number, x or y is no number
    SERIES_NOT_IN_TABLE = "series_not_in_table"
    SERIES_OF_ANOTHER_KIND = "series_of_another_kind"  # such as a spinal point on a T1 series
    FILE_MISSING = "file_missing"
    FILE_UNREADABLE = "file_unreadable"
    POINT_OUTSIDE_IMAGE = "point_outside_image"
    NO_PIXEL_SPACING = "no_pixel_spacing"  # and a box in millimetres was asked for
    MASKED = "masked_beside_severe"
    NONE_SEVERE = "none_severe_dropped"
    BACKGROUND = "none_severe_background"  # its image is there, without a box


LEFT_OUT_COLUMNS = ("reason", *_SLICE, "condition", "level", "grade")


def annotate(tables: Tables, group: Group) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join labels, points and series of one group.

    Returns:
        Points to use (study_id, series_id, instance_number, condition, level, grade, x, y,
        class_index into ``group.classes``), sorted by study, series, instance and class; and what
        was left out (the columns of LEFT_OUT_COLUMNS; grade is NA where there is no label).
    """
    labels = tables.labels[tables.labels["condition"].isin(group.conditions)]
    points = tables.points[tables.points["condition"].isin(group.conditions)]
    joined = points.merge(labels, on=_LOCATION, how="left").merge(
        tables.series, on=["study_id", "series_id"], how="left"
    )
    pointless = labels.merge(points[_LOCATION].drop_duplicates(), on=_LOCATION, how="left",
                             indicator=True)  # fmt: skip
    pointless = pointless[pointless["_merge"] == "left_only"]
    joined["reason"] = _reasons(joined, group)
    kept = joined[joined["reason"] == ""]
    left_out = pd.concat(
        [joined[joined["reason"] != ""], pointless.assign(reason=LeftOut.LABEL_WITHOUT_POINT)]
    )
    return _with_class(kept, group), left_out.reindex(columns=list(LEFT_OUT_COLUMNS))


def _reasons(joined: pd.DataFrame, group: Group) -> pd.Series[str]:
    """The first reason that applies to each point, '' where none does."""
    reason = pd.Series("", index=joined.index, dtype=object)
    for name, applies in (
        (LeftOut.POINT_WITHOUT_LABEL, joined["grade"].isna()),
        (LeftOut.SERIES_NOT_IN_TABLE, joined["kind"].isna()),
        (LeftOut.SERIES_OF_ANOTHER_KIND, joined["kind"] != group.series_kind),
        (
            LeftOut.POINT_WITHOUT_POSITION,
            joined[["instance_number", "x", "y"]].isna().any(axis=1),
        ),
    ):
        reason[applies & (reason == "")] = name.value
    return reason


def _with_class(points: pd.DataFrame, group: Group) -> pd.DataFrame:
    place = {location: index for index, location in enumerate(group.locations)}
    numbered = points.assign(
        instance_number=points["instance_number"].astype("int64"),
        grade=points["grade"].astype("int64"),
        class_index=[
            place[condition, level] * len(GRADES) + int(grade)
            for condition, level, grade in zip(
                points["condition"], points["level"], points["grade"], strict=True
            )
        ],
    )
    columns = [*_SLICE, "condition", "level", "grade", "x", "y", "class_index"]
    return numbered[columns].sort_values([*_SLICE, "class_index"], ignore_index=True)
