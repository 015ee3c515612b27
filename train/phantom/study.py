"""One study from its seed to its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.runtime.core.labels import (
    FORAMINAL,
    GRADE_TITLES,
    LEVELS,
    LOCATIONS,
    SPINAL,
    SUBARTICULAR,
)
from rsna_lumbar.train.phantom.acquisition import (
    Series,
    applied_quirks,
    covered_levels,
    plan_series,
)
from rsna_lumbar.train.phantom.anatomy.anatomy import Spine, draw_spine
from rsna_lumbar.train.phantom.anatomy.body_solids import body_solids, plain_body
from rsna_lumbar.train.phantom.anatomy.grades import draw_findings
from rsna_lumbar.train.phantom.anatomy.spine_solids import spine_solids
from rsna_lumbar.train.phantom.anatomy.tissues import Tissue
from rsna_lumbar.train.phantom.dicom_files import draw_header, write_slice
from rsna_lumbar.train.phantom.drawing import Scene, make_scene, paint
from rsna_lumbar.train.phantom.landmarks import Point, mark_point, mark_points
from rsna_lumbar.train.phantom.options import PhantomOptions
from rsna_lumbar.train.phantom.scanner import acquire, draw_receiver, draw_texture
from rsna_lumbar.train.phantom.seeds import PARTS, StudySeed

_EMPTY_SHARE = 0.08  # of a study's labels, with the quirk empty-labels
_KEPT_SHARE = 0.2  # of these labels that keep their coordinates


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """The rows of one study in the tables."""

    study_id: int
    labels: tuple[str, ...]  # grade titles or empty, in the order of LOCATIONS
    series: tuple[tuple[int, str], ...]  # (series id, kind)
    points: tuple[Point, ...]


def make_spine(seed: StudySeed, options: PhantomOptions) -> Spine:
    """The patient of a study, with graded findings."""
    findings = draw_findings(seed.rng("grades"), options.grade_frequencies, options.overlap)
    return draw_spine(seed.rng("anatomy"), findings)


def make_study(out: Path, options: PhantomOptions, seed: StudySeed) -> StudyRecord:
    """Write ``<part>_images/<study>/<series>/<instance>.dcm``; returns what the tables need."""
    spine = make_spine(seed, options)
    quirks = applied_quirks(seed, options)
    series = plan_series(seed, options, spine, quirks)
    header = draw_header(seed.rng("header"), seed.study_id(), quirks)
    scene, rng = study_scene(seed, spine, cues=options.cues), seed.rng("pixels")
    receiver = draw_receiver(rng, options.noise)
    for one in series:
        images = out / f"{PARTS[seed.part]}_images"
        folder = images / str(header.study_id) / str(one.series_id)
        folder.mkdir(parents=True)
        for part in one.slices:
            signal = paint(scene, part.plane, one.weighting, draw_texture(rng, part.plane))
            pixels = acquire(signal, part.plane, receiver, rng)
            write_slice(folder / f"{part.instance}.dcm", pixels, header, one, part)
    labels, points = _label(seed, spine, series, quirks)
    kinds = tuple((one.series_id, one.kind) for one in series)
    return StudyRecord(seed.study_id(), labels, kinds, points)


def study_scene(seed: StudySeed, spine: Spine, *, cues: bool = True) -> Scene:
    """All solids of one patient; without ``cues``, the spine and what is alike at every level."""
    rng = seed.rng("scanner")
    marrow = Tissue(float(rng.uniform(0.48, 0.66)), float(rng.uniform(0.36, 0.5)), 0.08)
    body = body_solids(spine, rng, marrow) if cues else plain_body(spine)
    return make_scene([*body, *spine_solids(spine, marrow)])


def _label(
    seed: StudySeed, spine: Spine, series: tuple[Series, ...], quirks: frozenset[str]
) -> tuple[tuple[str, ...], tuple[Point, ...]]:
    """Grade titles or '', in the order of LOCATIONS, and the points."""
    rng = seed.rng("labels")
    points = {(point.condition, point.level): point for point in mark_points(spine, series)}
    if "wrong-series" in quirks:  # a spinal point on the Sagittal T1 series, as in the real tables
        place = SPINAL.locations[int(rng.integers(len(SPINAL.locations)))]
        wrong = mark_point(spine, *place, series, FORAMINAL.series_kind)
        if wrong is not None and place in points:
            points[place] = wrong
    empty: set[tuple[str, str]] = set()
    if "empty-labels" in quirks:  # at least one
        draws = rng.uniform(size=len(LOCATIONS))
        drawn = (draws < _EMPTY_SHARE) | (draws == draws.min())
        empty = {place for place, one in zip(LOCATIONS, drawn, strict=True) if one}
    hidden = {place for place in sorted(empty) if rng.uniform() >= _KEPT_SHARE}
    unreached = set(LEVELS) - set(covered_levels(quirks))
    hidden |= {(one, level) for one, level in SUBARTICULAR.locations if level in unreached}
    empty |= hidden
    labels = tuple(
        "" if place in empty else GRADE_TITLES[spine.findings.of_location[place].grade]
        for place in LOCATIONS
    )
    return labels, tuple(point for place, point in points.items() if place not in hidden)
