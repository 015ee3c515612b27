"""The series and slices of a study: kinds, planes and instance numbers, with their quirks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, LEVELS, SPINAL, SUBARTICULAR
from rsna_lumbar.train.phantom.anatomy.anatomy import Spine, canal_point
from rsna_lumbar.train.phantom.anatomy.plane import Plane, Vector, centred_plane
from rsna_lumbar.train.phantom.anatomy.solids import AXES, Frame
from rsna_lumbar.train.phantom.options import QUIRKS, REAL_STACKS, PhantomOptions
from rsna_lumbar.train.phantom.seeds import StudySeed

_STACK_GAP_MM = 4.0  # between the slices of a stack angled to a disc
# The middle of the field of view. Its means and standard deviations (millimetres; cut off at 2.5
# deviations) put the labels where those of the challenge lie.
_SAGITTAL_MIDDLE_MM = (16.5, -11.0)  # y and z, from the middle of L3
_SAGITTAL_SHIFT_MM = (11.0, 4.0)  # y and z
_MOST_ASIDE_MM, _MOST_OBLIQUE = 6.0, 5.0  # millimetres, degrees: shifted sagittal stacks
_AXIAL_FORWARD_MM = 8.0  # in front of the middle of the canal
_AXIAL_SHIFT_MM = (2.0, 5.0)  # x and y
_AXIAL_MARGIN_MM = 8.0  # of the continuous stack, beyond the first and the last disc
# Choices of mixed-sizes: factors of the matrix, and the shorter side of slices, as a share.
_MATRIX_FACTORS = (0.75, 1.0, 1.25)
_SHORT_SIDES = (1.0, 0.875, 0.8125)

Stack = list[Plane]


@dataclass(frozen=True, eq=False, slots=True)
class Slice:
    """One file of a series."""

    instance: int
    plane: Plane


@dataclass(frozen=True, eq=False, slots=True)
class Series:
    """One series: its kind as spelled in the tables, and its slices in order of instance."""

    series_id: int
    kind: str
    gap_mm: float  # between the centres of neighbouring slices of a stack
    slices: tuple[Slice, ...]

    @property
    def weighting(self) -> str:
        """``t1`` or ``t2``."""
        return "t1" if self.kind == FORAMINAL.series_kind else "t2"


def applied_quirks(seed: StudySeed, options: PhantomOptions) -> frozenset[str]:
    """The requested quirks that this study has."""
    draws = seed.rng("quirks").uniform(size=len(QUIRKS))
    had = {name for name, draw in zip(QUIRKS, draws, strict=True) if draw < options.quirk_share}
    wanted = options.quirks if options.cues else options.quirks | REAL_STACKS
    return wanted & had


def plan_series(
    seed: StudySeed, options: PhantomOptions, spine: Spine, quirks: frozenset[str]
) -> tuple[Series, ...]:
    """All series of a study, sagittal ones first."""
    rng = seed.rng("acquisition")
    middle = np.array([0.0, *(_SAGITTAL_MIDDLE_MM + _shift(rng, _SAGITTAL_SHIFT_MM))])
    plans = [
        (kind, options.sagittal_spacing_mm, _sagittal_stack(rng, options, middle, quirks))
        for kind in (SPINAL.series_kind, FORAMINAL.series_kind)
    ]
    for gap_mm, planes in _axial_parts(rng, options, spine, quirks):
        plans.append((SUBARTICULAR.series_kind, gap_mm, planes))
    missing = GROUPS[int(rng.integers(len(GROUPS)))].series_kind
    return tuple(
        Series(seed.series_id(i), kind, gap, _number(rng, _resize(rng, stack, quirks), quirks))
        for i, (kind, gap, stack) in enumerate(plans)
        if not ("missing-series" in quirks and kind == missing)
    )


def _shift(rng: np.random.Generator, deviations_mm: tuple[float, float]) -> Vector:
    """Error of the placement, (2,) millimetres."""
    return np.asarray(np.clip(rng.standard_normal(2), -2.5, 2.5) * deviations_mm)


def _sagittal_stack(
    rng: np.random.Generator, options: PhantomOptions, middle: Vector, quirks: frozenset[str]
) -> Stack:
    """From the patient's right to the left; in a third of the series a few degrees oblique."""
    oblique = rng.normal(0, 1.5, 2) * (rng.uniform() < 0.3)
    frame = Frame(middle, AXES).moved(float(rng.normal(0, 1)), 0, 0)
    if "shifted" in quirks:
        frame = frame.moved(float(rng.uniform(-_MOST_ASIDE_MM, _MOST_ASIDE_MM)), 0, 0)
        oblique = rng.uniform(-_MOST_OBLIQUE, _MOST_OBLIQUE, 2)
    frame = frame.turned(2, oblique[0]).turned(1, oblique[1])
    count, gap = options.slices_sagittal, options.sagittal_spacing_mm
    centres = [frame.point((i - (count - 1) / 2) * gap, 0, 0) for i in range(count)]
    return _planes(centres, frame.axes[1], -frame.axes[2], options.sagittal_fov_mm, options)


def _axial_parts(
    rng: np.random.Generator, options: PhantomOptions, spine: Spine, quirks: frozenset[str]
) -> list[tuple[float, Stack]]:
    """(gap, planes) of each axial series, from L1 down."""
    across, behind = _shift(rng, _AXIAL_SHIFT_MM)
    middle = (float(across), float(behind) - _AXIAL_FORWARD_MM)
    levels = covered_levels(quirks)
    if not quirks & {"axial-stacks", "axial-series"}:
        return [_continuous_stack(rng, options, spine, levels, middle)]
    stacks = [_angled_stack(options, spine, level, middle) for level in levels]
    parts = int(rng.integers(2, 5)) if "axial-series" in quirks else 1
    bounds = np.linspace(0, len(stacks), parts + 1).round().astype(int)
    return [
        (_STACK_GAP_MM, [plane for stack in stacks[low:high] for plane in stack])
        for low, high in pairwise(bounds)
    ]


def covered_levels(quirks: frozenset[str]) -> tuple[str, ...]:
    """The levels that axial slices reach."""
    return LEVELS[1:] if "short-coverage" in quirks else LEVELS


def _continuous_stack(
    rng: np.random.Generator,
    options: PhantomOptions,
    spine: Spine,
    levels: Sequence[str],
    middle: tuple[float, float],
) -> tuple[float, Stack]:
    """(gap, planes) of slices over the discs of ``levels``, slightly tilted.

    ``middle`` of the field: millimetres left of and behind the middle of the canal.
    """
    points = np.array([canal_point(spine, spine.disc(level)) for level in levels])
    frame = Frame(points.mean(axis=0), AXES).turned(0, float(rng.uniform(0, 6)))
    heights = (points - frame.origin_mm) @ frame.axes[2]
    top, bottom = heights.max() + _AXIAL_MARGIN_MM, heights.min() - _AXIAL_MARGIN_MM
    gap = (top - bottom) / (options.slices_axial - 1)
    first = frame.moved(*middle, float(top))
    stack = _parallel(first, options, [-i * gap for i in range(options.slices_axial)])
    return float(gap), stack


def _angled_stack(
    options: PhantomOptions, spine: Spine, level: str, middle: tuple[float, float]
) -> Stack:
    """A few slices parallel to one disc; ``middle`` is as for a continuous stack."""
    disc, count = spine.disc(level), max(1, options.slices_axial // len(LEVELS))
    frame = Frame(canal_point(spine, disc), disc.frame.axes).moved(*middle, 0)
    return _parallel(frame, options, [((count - 1) / 2 - i) * _STACK_GAP_MM for i in range(count)])


def _parallel(frame: Frame, options: PhantomOptions, heights_mm: Sequence[float]) -> Stack:
    centres = [frame.point(0, 0, float(height)) for height in heights_mm]
    return _planes(centres, frame.axes[0], frame.axes[1], options.axial_fov_mm, options)


def _planes(
    centres: Sequence[Vector],
    along_row: Vector,
    along_column: Vector,
    fov_mm: float,
    options: PhantomOptions,
) -> Stack:
    spacing, shape = fov_mm / options.matrix_px, (options.matrix_px, options.matrix_px)
    return [
        centred_plane(centre, along_row, along_column, spacing_mm=spacing, shape=shape)
        for centre in centres
    ]


def _resize(rng: np.random.Generator, stack: Stack, quirks: frozenset[str]) -> Stack:
    """Another matrix for the series, and a third one for a part of its slices."""
    if "mixed-sizes" not in quirks:
        return stack
    first, second = (float(factor) for factor in rng.permutation(_MATRIX_FACTORS)[:2])
    change = int(rng.integers(1, len(stack))) if len(stack) > 1 else 1
    short = float(rng.choice(_SHORT_SIDES))
    return [
        _resampled(plane, first if i < change else second, short) for i, plane in enumerate(stack)
    ]


def _resampled(plane: Plane, factor: float, short: float) -> Plane:
    """The same field with ``factor`` times the pixels, cropped to ``short`` from front to back."""
    across, down = (plane.columns - 1) / 2, (plane.rows - 1) / 2
    centre = plane.origin_mm + plane.spacing_mm * (
        across * plane.along_row + down * plane.along_column
    )
    sides = [plane.rows * factor, plane.columns * factor]
    # Front to back runs along the row of a sagittal and along the column of an axial slice.
    sides[1 if abs(plane.along_row[1]) > 0.5 else 0] *= short
    return centred_plane(
        centre, plane.along_row, plane.along_column,
        spacing_mm=plane.spacing_mm / factor, shape=(round(sides[0]), round(sides[1])),
    )  # fmt: skip


def _number(rng: np.random.Generator, stack: Stack, quirks: frozenset[str]) -> tuple[Slice, ...]:
    """Instance numbers 1, 2, 3 ..., unless quirks change them."""
    ordered = stack[::-1] if "reversed" in quirks else stack
    steps = np.ones(len(ordered), int)
    if "holes" in quirks:
        steps = rng.integers(1, 5, len(ordered))
        steps[0] = rng.integers(2, 40)
    return tuple(Slice(int(n), plane) for n, plane in zip(np.cumsum(steps), ordered, strict=True))
