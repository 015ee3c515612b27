"""One study from its seed to its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsna_lumbar.runtime.core.labels import FORAMINAL, GRADE_TITLES, LOCATIONS, SPINAL
from rsna_lumbar.train.phantom.acquisition import Series, applied_quirks, plan_series
from rsna_lumbar.train.phantom.anatomy.anatomy import Spine, draw_spine
from rsna_lumbar.train.phantom.anatomy.body_solids import body_solids
from rsna_lumbar.train.phantom.anatomy.grades import draw_findings
from rsna_lumbar.train.phantom.anatomy.spine_solids import spine_solids
from rsna_lumbar.train.phantom.anatomy.tissues import Tissue
from rsna_lumbar.train.phantom.dicom_files import Header, draw_header, write_slice
from rsna_lumbar.train.phantom.drawing import Scene, make_scene, paint
from rsna_lumbar.train.phantom.landmarks import Point, mark_point, mark_points
from rsna_lumbar.train.phantom.options import PhantomOptions
from rsna_lumbar.train.phantom.scanner import Receiver, acquire, draw_receiver, draw_texture
from rsna_lumbar.train.phantom.seeds import StudySeed

_EMPTY_SHARE = 0.08  # of a study's labels, under empty-labels
_KEPT_SHARE = 0.2  # of those, how many keep their coordinates


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """What the tables say of one study."""

    study_id: int
    labels: tuple[str, ...]  # grade titles or empty, in the order of LOCATIONS
    series: tuple[tuple[int, str], ...]  # (series id, kind)
    points: tuple[Point, ...]


def make_spine(seed: StudySeed, options: PhantomOptions) -> Spine:
    """The patient of a study, with graded findings."""
    findings = draw_findings(seed.rng("grades"), options.grade_frequencies, options.overlap)
    return draw_spine(seed.rng("anatomy"), findings)


def make_study(images: Path, seed: StudySeed, options: PhantomOptions) -> StudyRecord:
    """Writes ``<images>/<study>/<series>/<instance>.dcm`` and says what the tables need."""
    spine = make_spine(seed, options)
    quirks = applied_quirks(seed, options)
    series = plan_series(seed, options, spine, quirks)
    header = draw_header(seed.rng("header"), seed.study_id(), quirks)
    _write_images(images, seed, options, spine, series, header)
    labels, points = _label(seed, spine, series, quirks)
    kinds = tuple((one.series_id, one.kind) for one in series)
    return StudyRecord(seed.study_id(), labels, kinds, points)


def study_scene(seed: StudySeed, spine: Spine) -> Scene:
    """Everything there is to paint in one patient."""
    rng = seed.rng("scanner")
    marrow = Tissue(float(rng.uniform(0.48, 0.66)), float(rng.uniform(0.36, 0.5)), 0.08)
    return make_scene([*body_solids(spine, rng, marrow), *spine_solids(spine, marrow)])


def _write_images(
    images: Path,
    seed: StudySeed,
    options: PhantomOptions,
    spine: Spine,
    series: tuple[Series, ...],
    header: Header,
) -> None:
    scene, rng = study_scene(seed, spine), seed.rng("pixels")
    receiver = draw_receiver(rng, options.noise)
    for one in series:
        folder = images / str(header.study_id) / str(one.series_id)
        folder.mkdir(parents=True)
        _write_series(folder, rng, scene, receiver, header, one)


def _write_series(
    folder: Path,
    rng: np.random.Generator,
    scene: Scene,
    receiver: Receiver,
    header: Header,
    series: Series,
) -> None:
    for one in series.slices:
        signal = paint(scene, one.plane, series.weighting, draw_texture(rng, one.plane))
        pixels = acquire(signal, one.plane, receiver, rng)
        write_slice(folder / f"{one.instance}.dcm", pixels, header, series, one)


def _label(
    seed: StudySeed, spine: Spine, series: tuple[Series, ...], quirks: frozenset[str]
) -> tuple[tuple[str, ...], tuple[Point, ...]]:
    rng = seed.rng("labels")
    points = mark_points(spine, series)
    if "wrong-series" in quirks:
        points = _misplace(rng, spine, series, points)
    empty = _empty_locations(rng) if "empty-labels" in quirks else frozenset()
    kept = {location for location in sorted(empty) if rng.uniform() < _KEPT_SHARE}
    labels = tuple(
        "" if place in empty else GRADE_TITLES[spine.findings.of_location[place].grade]
        for place in LOCATIONS
    )
    hidden = empty - kept
    return labels, tuple(point for point in points if (point.condition, point.level) not in hidden)


def _empty_locations(rng: np.random.Generator) -> frozenset[tuple[str, str]]:
    """At least one location without a grade."""
    draws = rng.uniform(size=len(LOCATIONS))
    return frozenset(
        place
        for place, draw in zip(LOCATIONS, draws, strict=True)
        if draw < _EMPTY_SHARE or draw == draws.min()
    )


def _misplace(
    rng: np.random.Generator,
    spine: Spine,
    series: tuple[Series, ...],
    points: tuple[Point, ...],
) -> tuple[Point, ...]:
    """Marks one spinal point on the Sagittal T1 series, as five are in the real tables."""
    condition, level = SPINAL.locations[int(rng.integers(len(SPINAL.locations)))]
    wrong = mark_point(spine, condition, level, series, FORAMINAL.series_kind)
    if wrong is None:
        return points
    return tuple(
        wrong if (point.condition, point.level) == (condition, level) else point for point in points
    )
