"""One labelled slice file -> its square image and its YOLO label file. Runs in worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rsna_lumbar.runtime.core.labels import GRADES
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.core.turning import AS_STORED
from rsna_lumbar.runtime.dicom.slices import Slice, read_slices
from rsna_lumbar.train.dataset.annotations import LeftOut
from rsna_lumbar.train.dataset.boxes import BoxSize, Point, label_line
from rsna_lumbar.train.dataset.label_scheme import LabelScheme, mask

USED = ""


class Standing(StrEnum):
    """How the image of a slice came to stand upright."""

    AS_STORED = "as_stored"
    TURNED = "turned"
    UNKNOWN = "no_orientation"  # in the header; left as stored

    @classmethod
    def of(cls, one: Slice) -> Standing:
        if one.turn is None:
            return cls.UNKNOWN
        return cls.AS_STORED if one.turn == AS_STORED else cls.TURNED


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the slices of a group become images; the same for all of them."""

    size_px: int
    preprocessing: Preprocessing
    box: BoxSize
    least_box_px: float
    scheme: LabelScheme


@dataclass(frozen=True, slots=True)
class SliceJob:
    """One slice file to become an image and its label file."""

    name: str  # of both files, without suffix
    part: str
    source: Path
    image: Path
    label: Path
    points: tuple[Point, ...]
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class SliceOutcome:
    """What became of a slice."""

    reasons: tuple[str, ...]  # for each point USED, else why it was not
    image_bytes: int = 0  # of the image file; 0 where none was written
    standing: Standing = Standing.AS_STORED


def write_slice(job: SliceJob) -> SliceOutcome:
    """Write the image and the label file of one slice.

    A slice without a usable point is not written: it would be taught as background.
    """
    if not job.source.is_file():
        return _left_out(job, LeftOut.FILE_MISSING)
    try:
        one = _only_slice(job)
    except SkipFile:
        return _left_out(job, LeftOut.FILE_UNREADABLE)
    if job.recipe.box.unit == "mm" and one.spacing_mm is None:
        return _left_out(job, LeftOut.NO_PIXEL_SPACING)
    reasons = _reasons(job, one)
    if not {USED, LeftOut.BACKGROUND} & set(reasons):
        return SliceOutcome(reasons)
    used = [point for point, why in zip(job.points, reasons, strict=True) if why == USED]
    place = one.placement
    sides_px = job.recipe.box.sides_px(place, one.spacing_mm)
    lines = [label_line(point, place, sides_px, job.recipe.least_box_px) for point in used]
    job.label.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return SliceOutcome(reasons, _write_png(job.image, one), Standing.of(one))


def _left_out(job: SliceJob, reason: LeftOut) -> SliceOutcome:
    return SliceOutcome((reason.value,) * len(job.points))


def _only_slice(job: SliceJob) -> Slice:
    """A point names a file, not a frame, so a file must hold one frame."""
    slices = read_slices(job.source, job.recipe.size_px, job.recipe.preprocessing)
    if len(slices) != 1:
        raise SkipFile(Reason.BAD_PIXELS, f"{len(slices)} frames")
    return slices[0]


def _reasons(job: SliceJob, one: Slice) -> tuple[str, ...]:
    """Points outside the image are no labels of it, so they are told before masking."""
    inside = [point.lies_in(one.rows, one.columns) for point in job.points]
    grades = [
        p.class_index % len(GRADES) for p, lies in zip(job.points, inside, strict=True) if lies
    ]
    masked = iter(mask(grades, job.recipe.scheme))
    return tuple(next(masked) if lies else LeftOut.POINT_OUTSIDE_IMAGE.value for lies in inside)


def _write_png(path: Path, one: Slice) -> int:
    """Packed lightly: 4 ms a slice of 384 px against 17 ms with Pillow's default, 13 % larger."""
    from PIL import Image

    Image.fromarray(one.image).save(path, format="PNG", compress_level=1)
    return path.stat().st_size
