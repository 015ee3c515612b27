"""Sides and levels by position, on the slices and labelled points of two real studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.labels import FORAMINAL, LEVELS, SPINAL, SUBARTICULAR
from rsna_lumbar.runtime.geometry.discs import Candidate, fit_discs
from rsna_lumbar.runtime.geometry.slice_plane import SlicePlane
from rsna_lumbar.runtime.geometry.views import one_view, views_by_position

REAL = Path(__file__).parents[3] / "shared" / "data" / "real_geometry"
pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="the geometry of real studies is not there; its checks did not run"
)
STUDIES = (9000001, 9000002)
Discs = NDArray[np.float64]  # (5, 3)
Planes = dict[int, SlicePlane]  # instance number -> plane
Change = Callable[[Planes], Planes]


def planes_of(study: int, kind: str) -> dict[int, SlicePlane]:
    """Instance number -> its plane, in the order of the table."""
    table = pd.read_csv(REAL / "slices.csv")
    rows = table[(table.study == study) & (table.kind.str.startswith(kind))]
    return {one["instance"]: plane(one) for one in rows.to_dict("records")}


def plane(row: dict[str, Any]) -> SlicePlane:
    corner, along_row, along_column = (
        np.array([row[name + axis] for axis in "xyz"]) for name in "prc"
    )
    spacing = (row["spacing_row"], row["spacing_col"])
    middle_row, middle_column = (row["rows"] - 1) / 2, (row["columns"] - 1) / 2
    centre = (
        corner + middle_column * spacing[1] * along_row + middle_row * spacing[0] * along_column
    )
    return SlicePlane(centre, along_row, along_column, spacing, row["rows"], row["columns"])


def mirrored(one: SlicePlane) -> SlicePlane:
    """Stored from right to left: the same tissue, its columns in the other order."""
    return replace(one, along_row=-one.along_row)


def as_stored(planes: Planes) -> Planes:
    return planes


def reversed_stack(planes: Planes) -> Planes:
    return dict(reversed(planes.items()))


def mirrored_stack(planes: Planes) -> Planes:
    return {number: mirrored(one) for number, one in planes.items()}


def points_of(study: int, condition: str) -> pd.DataFrame:
    table = pd.read_csv(REAL / "points.csv")
    return table[(table.study_id == study) & table.condition.str.contains(condition)]


def labelled_discs(study: int) -> Discs:
    planes = planes_of(study, "Sagittal T2")
    points = points_of(study, "Spinal").sort_values("level")
    assert [level.lower().replace("/", "_") for level in points.level] == list(LEVELS)
    return np.array([planes[p.instance_number].point_mm(p.x, p.y) for p in points.itertuples()])


def one_candidate_each(discs: Discs) -> list[list[Candidate]]:
    return [[Candidate(point, 0.5)] for point in discs]


def right_views(study: int, centres: Discs, changed: Change = as_stored) -> int:
    """How many of the study's twenty labels are in the view of their own location, and no other."""
    right = 0
    for group, condition in ((FORAMINAL, "Foraminal"), (SUBARTICULAR, "Subarticular")):
        planes = changed(planes_of(study, group.series_kind))
        views = views_by_position(group, list(planes.values()), centres)
        numbers = list(planes)
        for point in points_of(study, condition).itertuples():
            location = tuple(
                text.lower().replace(" ", "_").replace("/", "_")
                for text in (point.condition, point.level)
            )
            own = views.of_location[group.locations.index(location)]
            spoken = views.slices[:, numbers.index(point.instance_number)]
            right += spoken[own] and spoken.sum() == 1
    return right


@pytest.mark.parametrize("changed", [as_stored, reversed_stack, mirrored_stack])
@pytest.mark.parametrize("study", STUDIES)
def test_every_label_is_in_the_view_of_its_own_location(study: int, changed: Change) -> None:
    discs = fit_discs(one_candidate_each(labelled_discs(study)))
    assert discs is not None and all(discs.seen)
    assert right_views(study, discs.centres_mm, changed) == 20


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("study", STUDIES)
def test_five_millimetres_of_error_change_nothing(study: int, seed: int) -> None:
    error = np.random.default_rng(seed).normal(size=(5, 3))
    error *= 5 / np.linalg.norm(error, axis=1, keepdims=True)
    discs = fit_discs(one_candidate_each(labelled_discs(study) + error))
    assert discs is not None
    assert right_views(study, discs.centres_mm) == 20


@pytest.mark.parametrize("missing", range(5))
@pytest.mark.parametrize("study", STUDIES)
def test_one_missing_level_is_filled_in(study: int, missing: int) -> None:
    truth = labelled_discs(study)
    candidates = one_candidate_each(truth)
    candidates[missing] = []
    discs = fit_discs(candidates)
    assert discs is not None
    assert discs.seen == tuple(level != missing for level in range(5))
    assert np.linalg.norm(discs.centres_mm[missing] - truth[missing]) < 10
    assert right_views(study, discs.centres_mm) == 20


@pytest.mark.parametrize("swapped", list(combinations(range(5), 2)))
@pytest.mark.parametrize("study", STUDIES)
def test_two_swapped_levels_are_replaced_or_refused(study: int, swapped: tuple[int, int]) -> None:
    points = labelled_discs(study)
    points[list(swapped)] = points[list(reversed(swapped))]
    discs = fit_discs(one_candidate_each(points))
    if swapped in ((0, 1), (3, 4)):  # what is left lies at one end
        assert discs is None
        return
    assert discs is not None and not any(discs.seen[level] for level in swapped)
    assert right_views(study, discs.centres_mm) == 20


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_points_are_refused(count: int) -> None:
    discs = labelled_discs(STUDIES[0])
    assert fit_discs([[Candidate(one, 0.9)] for one in discs[:count]] + [[]] * (5 - count)) is None


def noise_fits(weight: float) -> int:
    """Of 200 studies with three random points a level, the number that pass for a spine."""
    rng = np.random.default_rng(0)
    half_mm = np.array([20, 40, 90])
    found = 0
    for _ in range(200):
        candidates = [
            [Candidate(rng.uniform(-half_mm, half_mm), rng.uniform(0, weight)) for _ in range(3)]
            for _ in range(5)
        ]
        found += fit_discs(candidates) is not None
    return found


def test_noise_is_no_spine() -> None:
    """Not with the low peaks that noise has, and seldom with any."""
    assert noise_fits(0.1) == 0
    assert noise_fits(1.0) < 40


def test_the_likelier_of_two_candidates_loses_if_it_is_no_spine() -> None:
    truth = labelled_discs(STUDIES[0])
    candidates = one_candidate_each(truth)
    candidates[2].append(Candidate(truth[4], 0.9))  # what the detector saw of L5/S1
    discs = fit_discs(candidates)
    assert discs is not None and all(discs.seen)
    np.testing.assert_allclose(discs.centres_mm, truth)


def test_a_point_in_the_patient() -> None:
    """An L1/L2 label by hand: the first pixel's corner, and 240.30 columns and 151.52 rows."""
    study = STUDIES[0]
    row = pd.read_csv(REAL / "slices.csv").query("study == @study and instance == 9")
    row = row[row.kind.str.startswith("Sagittal T2")].iloc[0]
    expected = (
        row[["px", "py", "pz"]].to_numpy(float)
        + 240.2987879311166 * row.spacing_col * row[["rx", "ry", "rz"]].to_numpy(float)
        + 151.51829268292684 * row.spacing_row * row[["cx", "cy", "cz"]].to_numpy(float)
    )
    np.testing.assert_allclose(labelled_discs(study)[0], expected, atol=1e-9)


def test_the_spinal_set_has_one_view() -> None:
    planes = list(planes_of(STUDIES[0], "Sagittal T2").values())
    views = views_by_position(SPINAL, planes, labelled_discs(STUDIES[0]))
    assert views.names == one_view(18, SPINAL).names == ("all",)
    assert views.slices.shape == (1, 18) and views.slices.all() and views.seen.all()
    assert views.of_location.tolist() == [0] * 5


def test_slices_of_the_midline_are_in_no_view() -> None:
    planes = list(planes_of(STUDIES[0], "Sagittal T1").values())
    views = views_by_position(FORAMINAL, planes, labelled_discs(STUDIES[0]))
    left, right = views.slices
    assert not (left & right).any() and 0 < (~views.seen).sum() < 3
    assert views.distance_mm is not None
    assert (views.distance_mm[0][left] > 0).all() and (views.distance_mm[1][right] < 0).all()
