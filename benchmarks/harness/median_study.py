"""The median study of the challenge, any number of times, with files like the challenge's.

17 sagittal T1 slices of 512 x 512, 17 sagittal T2 of 448 x 448 and 40 axial T2 of 384 x 384, cut
from the phantom of ``rsna_lumbar.train``: 12 of 16 bits, RLE Lossless, headers as the challenge's,
a table that names the series. The decoder's work depends on how far the pixels compress: the files
have 0.58 to 0.72 of their raw size, by study; a published Siemens slice of 384 x 384 has 0.63.

A few studies are drawn. The others are hard links to them under other ids: the folders name the
studies, and every file is opened, read and decoded once for each. With a warm page cache, as in the
benchmarks, that costs the same as distinct files.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.studies.tables import TABLE_COLUMNS
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.train.phantom.acquisition import Series, plan_series
from rsna_lumbar.train.phantom.anatomy.anatomy import Spine
from rsna_lumbar.train.phantom.dicom_files import draw_header, write_slice
from rsna_lumbar.train.phantom.drawing import paint
from rsna_lumbar.train.phantom.options import USUAL_QUIRKS, PhantomOptions
from rsna_lumbar.train.phantom.scanner import acquire, draw_receiver, draw_texture
from rsna_lumbar.train.phantom.seeds import StudySeed
from rsna_lumbar.train.phantom.study import make_spine, study_scene

IMAGES, TABLE = "test_images", "test_series_descriptions.csv"
FIRST_ID = 100_000_001  # all ids have the same width, so they sort by number
NOISE = 0.04  # of the signal of fat; the phantom's own 0.025 compresses to 0.56
TEST_PART = 1  # of a StudySeed


@dataclass(frozen=True, slots=True)
class SeriesSize:
    """Slices and matrix of one series."""

    group: Group
    slices: int
    matrix_px: int


@dataclass(frozen=True, slots=True)
class StudySize:
    """The series of a study."""

    series: tuple[SeriesSize, ...]

    @property
    def slices(self) -> int:
        return sum(one.slices for one in self.series)

    def __str__(self) -> str:
        return " + ".join(f"{one.slices} x {one.matrix_px}^2" for one in self.series)


MEDIAN = StudySize(
    (
        SeriesSize(FORAMINAL, 17, 512),
        SeriesSize(SPINAL, 17, 448),
        SeriesSize(SUBARTICULAR, 40, 384),
    )
)


def draw_studies(folder: Path, size: StudySize = MEDIAN, *, count: int, seed: int = 0) -> None:
    """Draw studies in the challenge's layout, the same for the same seed and size.

    A folder that has its table is complete and left unchanged.
    """
    if (folder / TABLE).exists():
        return
    shutil.rmtree(folder / IMAGES, ignore_errors=True)  # of an interrupted run
    for index in range(count):
        study = folder / IMAGES / str(FIRST_ID + index)
        _draw_study(study, size, StudySeed(seed, TEST_PART, index))
    _write_table(folder, size, count)


def repeat_studies(drawn: Path, folder: Path, size: StudySize = MEDIAN, *, count: int) -> Path:
    """A root of ``count`` studies, which repeat those of :func:`draw_studies`; return it.

    A folder that has its table is complete and left unchanged.
    """
    if (folder / TABLE).exists():
        return folder
    shutil.rmtree(folder / IMAGES, ignore_errors=True)
    originals = sorted((drawn / IMAGES).iterdir())
    for index in range(count):
        study = folder / IMAGES / str(FIRST_ID + index)
        shutil.copytree(originals[index % len(originals)], study, copy_function=_link_or_copy)
    _write_table(folder, size, count)
    return folder


def compressed_share(root: Path, size: StudySize = MEDIAN) -> float:
    """Bytes of a root's files over those of their raw pixels."""
    studies = list((root / IMAGES).iterdir())
    raw = sum(2 * one.slices * one.matrix_px**2 for one in size.series) * len(studies)
    return sum(path.stat().st_size for path in root.rglob("*.dcm")) / raw


def _draw_study(folder: Path, size: StudySize, seed: StudySeed) -> None:
    spine = make_spine(seed, PhantomOptions())
    scene, rng = study_scene(seed, spine), seed.rng("pixels")
    receiver = draw_receiver(rng, NOISE)
    header = draw_header(seed.rng("header"), int(folder.name), USUAL_QUIRKS)
    for number, of_series in enumerate(size.series, start=1):
        series = replace(_planned(seed, spine, of_series), series_id=number)
        (folder / str(number)).mkdir(parents=True)
        for one in series.slices:
            signal = paint(scene, one.plane, series.weighting, draw_texture(rng, one.plane))
            pixels = acquire(signal, one.plane, receiver, rng)
            write_slice(folder / str(number) / f"{one.instance}.dcm", pixels, header, series, one)


def _planned(seed: StudySeed, spine: Spine, size: SeriesSize) -> Series:
    """The planes of one series, with its matrix and number of slices."""
    options = PhantomOptions(matrix_px=size.matrix_px)
    if size.group is SUBARTICULAR:
        options = replace(options, slices_axial=size.slices)
    else:
        options = replace(options, slices_sagittal=size.slices)
    kind = size.group.series_kind
    return next(s for s in plan_series(seed, options, spine, frozenset()) if s.kind == kind)


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
    return target


def _write_table(folder: Path, size: StudySize, count: int) -> None:
    """Written last: it marks the folder as complete."""
    lines = [
        f"{FIRST_ID + index},{number},{one.group.series_kind}"
        for index in range(count)
        for number, one in enumerate(size.series, start=1)
    ]
    write_atomically(folder / TABLE, "\n".join([",".join(TABLE_COLUMNS), *lines]) + "\n")
