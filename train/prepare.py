"""Tables and DICOM -> one YOLO data set per group.

    OUT/split.csv                                    study_id, part
    OUT/<group>/data.yaml                            class names in canonical order, one channel
    OUT/<group>/images/{train,val}/<study>_<series>_<instance>.png
    OUT/<group>/labels/{train,val}/<study>_<series>_<instance>.txt
    OUT/<group>/left_out.csv                         every label and point not used, and why
    OUT/<group>/card.json                            settings, prior rows, counts; written last

Only slices that carry a label are decoded: an unlabelled neighbour shows the same anatomy and
must not be taught as background. The same options give the same bytes, whatever the workers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rsna_lumbar.runtime.decode import Slice, read_slices
from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.files import write_atomically
from rsna_lumbar.runtime.labels import GROUPS, Group
from rsna_lumbar.runtime.preprocess import Placement, Preprocessing
from rsna_lumbar.runtime.processes import worker_pool
from rsna_lumbar.runtime.reasons import Reason, SkipFile
from rsna_lumbar.train.annotations import LEFT_OUT_COLUMNS, LeftOut, annotate
from rsna_lumbar.train.boxes import BOX_FRACTION, LEAST_BOX_PX, Point, label_line
from rsna_lumbar.train.prior import class_prior
from rsna_lumbar.train.split import Split, split_studies
from rsna_lumbar.train.tables import Tables, read_tables

CARD = "card.json"
PARTS = ("train", "val")
IMAGES = "train_images"
_CHUNK = 16  # slices that a worker takes at a time

Reasons = tuple[str, ...]  # for each point of a slice: '' where used, else why not
Track = Callable[[Iterable[Reasons], str, int], Iterable[Reasons]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """What decides the bytes written."""

    size_px: int = 384
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    least_box_px: float = LEAST_BOX_PX  # of the square
    val_fraction: float = 0.15
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SliceJob:
    """One slice file to become an image and its label file."""

    source: Path
    image: Path
    label: Path
    points: tuple[Point, ...]
    size_px: int
    preprocessing: Preprocessing
    box_fraction: float
    least_box_px: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of one group."""

    group: str
    images: dict[str, int]  # by part
    boxes: dict[str, int]  # by part
    left_out: dict[str, int]  # by reason


def prepare(
    root: Path,
    out: Path,
    options: PrepareOptions,
    *,
    workers: int = 1,
    track: Track | None = None,
) -> list[Prepared]:
    """Write the three data sets.

    Args:
        root: folder with the tables and ``train_images``.
        out: a new or empty folder.
        workers: decoding processes.
        track: shows progress; called with an iterable, a group's name and the number of slices,
            returns the same items.

    Raises:
        DataError: the tables cannot be used, or ``out`` holds anything already, for stale
            slices of another split would be trained on.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; name a new one")
    tables = read_tables(root)
    split = split_studies(tables.studies, options.val_fraction, options.seed)
    out.mkdir(parents=True, exist_ok=True)
    parts = pd.DataFrame(sorted(split.part_of.items()), columns=["study_id", "part"])
    write_atomically(out / "split.csv", parts.to_csv(index=False, lineterminator="\n"))
    return [
        _prepare_group(
            root, out / group.name, group, tables, split, options, workers, track or _untracked
        )
        for group in GROUPS
    ]


def _prepare_group(
    root: Path,
    out: Path,
    group: Group,
    tables: Tables,
    split: Split,
    options: PrepareOptions,
    workers: int,
    track: Track,
) -> Prepared:
    points, left_out = annotate(tables, group)
    for part in PARTS:
        (out / "images" / part).mkdir(parents=True)
        (out / "labels" / part).mkdir(parents=True)
    slices = list(_slices(points))
    jobs = [_job(root, out, group, split, options, rows) for rows in slices]
    points["reason"] = ""
    results = track(_run(jobs, workers), group.name, len(jobs))
    for rows, reasons in zip(slices, results, strict=True):
        points.loc[rows.index, "reason"] = reasons
    left_out = pd.concat([left_out, points[points["reason"] != ""]])
    used = points[points["reason"] == ""].assign(
        part=lambda frame: frame["study_id"].map(split.part_of)
    )
    _write_left_out(out / "left_out.csv", left_out)
    _write_data_yaml(out / "data.yaml", group)
    card = _card(group, tables, split, options, used, left_out)
    write_atomically(out / CARD, json.dumps(card, indent=2, allow_nan=False) + "\n")
    return Prepared(group.name, card["images"], _by_part(used), card["left_out"])


def _slices(points: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for _, rows in points.groupby(["study_id", "series_id", "instance_number"], sort=True):
        yield rows


def _job(
    root: Path,
    out: Path,
    group: Group,
    split: Split,
    options: PrepareOptions,
    rows: pd.DataFrame,
) -> SliceJob:
    first = rows.iloc[0]
    study, series, instance = first["study_id"], first["series_id"], first["instance_number"]
    part, name = split.part_of[study], f"{study}_{series}_{instance}"
    return SliceJob(
        source=root / IMAGES / study / series / f"{instance}.dcm",
        image=out / "images" / part / f"{name}.png",
        label=out / "labels" / part / f"{name}.txt",
        points=tuple(
            Point(int(index), float(x), float(y))
            for index, x, y in zip(rows["class_index"], rows["x"], rows["y"], strict=True)
        ),
        size_px=options.size_px,
        preprocessing=options.preprocessing,
        box_fraction=BOX_FRACTION[group.name],
        least_box_px=options.least_box_px,
    )


def _run(jobs: Sequence[SliceJob], workers: int) -> Iterator[Reasons]:
    """Results in the order of the jobs."""
    if workers == 1 or len(jobs) < 2:
        yield from map(write_slice, jobs)
        return
    with worker_pool(min(workers, len(jobs))) as pool:
        yield from pool.map(write_slice, jobs, chunksize=_CHUNK)


def write_slice(job: SliceJob) -> Reasons:
    """Write the image and the label file of one slice.

    Returns:
        For each point '' where it was used, else the reason why not. A slice without a usable
        point is not written: it would be taught as background.
    """
    if not job.source.is_file():
        return (LeftOut.FILE_MISSING.value,) * len(job.points)
    try:
        one = _only_slice(job)
    except SkipFile:
        return (LeftOut.FILE_UNREADABLE.value,) * len(job.points)
    reasons = tuple(
        "" if point.lies_in(one.rows, one.columns) else LeftOut.POINT_OUTSIDE_IMAGE.value
        for point in job.points
    )
    used = [point for point, reason in zip(job.points, reasons, strict=True) if not reason]
    if used:
        place = Placement(one.rows, one.columns, job.size_px)
        lines = [label_line(point, place, job.box_fraction, job.least_box_px) for point in used]
        _write_png(job.image, one)
        job.label.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return reasons


def _only_slice(job: SliceJob) -> Slice:
    """A point names a file, not a frame, so a file must hold one frame."""
    slices = read_slices(job.source, job.size_px, job.preprocessing)
    if len(slices) != 1:
        raise SkipFile(Reason.BAD_PIXELS, f"{len(slices)} frames")
    return slices[0]


def _write_png(path: Path, one: Slice) -> None:
    from PIL import Image

    Image.fromarray(one.image).save(path, format="PNG")


def _write_left_out(path: Path, left_out: pd.DataFrame) -> None:
    ordered = left_out[list(LEFT_OUT_COLUMNS)].sort_values(list(LEFT_OUT_COLUMNS))
    write_atomically(path, ordered.to_csv(index=False, lineterminator="\n"))


def _write_data_yaml(path: Path, group: Group) -> None:
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(group.classes))
    # Without "path", ultralytics takes the folder of this file: the data set can be moved.
    write_atomically(path, f"train: images/train\nval: images/val\nchannels: 1\nnames:\n{names}")


def _card(
    group: Group,
    tables: Tables,
    split: Split,
    options: PrepareOptions,
    used: pd.DataFrame,
    left_out: pd.DataFrame,
) -> dict[str, Any]:
    training = tables.labels[tables.labels["study_id"].isin(split.train)]
    slices = used.drop_duplicates(["study_id", "series_id", "instance_number"])
    counts = Counter(zip(used["part"], used["class_index"], strict=True))
    return {
        "group": group.name,
        "size_px": options.size_px,
        "preprocessing": asdict(options.preprocessing),
        "prior": class_prior(training, group.locations).tolist(),
        "box_fraction": BOX_FRACTION[group.name],
        "least_box_px": options.least_box_px,
        "split": {
            "seed": options.seed,
            "val_fraction": options.val_fraction,
            "studies": {"train": len(split.train), "val": len(split.val)},
        },
        "images": _by_part(slices),
        "boxes": {
            name: {part: counts[part, index] for part in PARTS}
            for index, name in enumerate(group.classes)
        },
        "left_out": _by_reason(left_out),
        "empty_labels_of_all_groups": tables.empty_labels,
    }


def _by_part(rows: pd.DataFrame) -> dict[str, int]:
    return {part: int((rows["part"] == part).sum()) for part in PARTS}


def _by_reason(left_out: pd.DataFrame) -> dict[str, int]:
    return {
        reason.value: int(count)
        for reason in LeftOut
        if (count := (left_out["reason"] == reason.value).sum())
    }


def _untracked(results: Iterable[Reasons], _: str, __: int) -> Iterable[Reasons]:
    return results
