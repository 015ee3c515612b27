"""The labelled point of each condition: its place in the patient, and the slice that shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, SPINAL
from rsna_lumbar.train.phantom.acquisition import Series
from rsna_lumbar.train.phantom.anatomy.anatomy import Spine, canal_point, side_of
from rsna_lumbar.train.phantom.anatomy.plane import Vector
from rsna_lumbar.train.phantom.anatomy.spine_solids import foramen_point, recess_point


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the table of coordinates."""

    series_id: int
    instance: int
    condition: str
    level: str
    x: float  # columns, in pixels of that slice; pixel centres are integers
    y: float  # rows


def landmark_mm(spine: Spine, condition: str, level: str) -> Vector:
    """The labelled point in the patient (LPS, mm)."""
    disc = spine.disc(level)
    if condition in SPINAL.conditions:
        return canal_point(spine, disc)
    if condition in FORAMINAL.conditions:
        return foramen_point(disc, side_of(condition))
    return recess_point(disc, side_of(condition))


def mark_points(spine: Spine, series: tuple[Series, ...]) -> tuple[Point, ...]:
    """The points of all locations that a series of their kind shows, in canonical order."""
    return tuple(
        point
        for group in GROUPS
        for condition, level in group.locations
        if (point := mark_point(spine, condition, level, series, group.series_kind)) is not None
    )


def mark_point(
    spine: Spine, condition: str, level: str, series: Iterable[Series], kind: str
) -> Point | None:
    """The landmark on the nearest slice of a series of this kind; None if no slice shows it."""
    place = landmark_mm(spine, condition, level)
    shown = [
        (abs(one.plane.project(place)[2]), each.series_id, one)
        for each in series
        if each.kind == kind
        for one in each.slices
        if one.plane.contains(place)
    ]
    if not shown:
        return None
    _, series_id, nearest = min(shown, key=lambda item: item[0])
    x, y, _ = nearest.plane.project(place)
    return Point(series_id, nearest.instance, condition, level, x, y)
