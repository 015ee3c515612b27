"""Tables and DICOM -> one YOLO data set per group.

    OUT/prepare.json                                 options and hashes of the tables
    OUT/{train,val}_studies.csv                      study_id
    OUT/summary.json, summary.txt                    counts per class, part and reason
    OUT/<group>/data.yaml                            class names in canonical order, one channel
    OUT/<group>/images/{train,val}/<study>_<series>_<instance>.png
    OUT/<group>/labels/{train,val}/<study>_<series>_<instance>.txt
    OUT/<group>/slices.csv                           every slice with a usable label, its outcome
    OUT/<group>/left_out.csv                         every unused label and point, with a reason
    OUT/<group>/contact_sheet.png                    random boxes of each class, to look at
    OUT/<group>/card.json                            settings, prior rows, counts

Only slices with a label are decoded: an unlabelled neighbour shows the same anatomy and is not a
negative example. Everything is written into ``OUT.partial``, which becomes OUT in one step at the
end. If it is killed and started again, it continues. The same options give the same bytes, for any
number of workers and interruptions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pandas as pd

from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.system.atomic_files import sole_user, write_atomically
from rsna_lumbar.runtime.system.entry_point import DISTRIBUTION
from rsna_lumbar.runtime.system.processes import map_ahead
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
from rsna_lumbar.train.dataset import slice_index
from rsna_lumbar.train.dataset.annotations import LEFT_OUT_COLUMNS, annotate
from rsna_lumbar.train.dataset.boxes import BoxSize, Point
from rsna_lumbar.train.dataset.contact_sheet import write_contact_sheet
from rsna_lumbar.train.dataset.prior import class_prior
from rsna_lumbar.train.dataset.slice_images import (
    PrepareOptions,
    SliceJob,
    SliceOutcome,
    Standing,
    write_slice,
)
from rsna_lumbar.train.dataset.split import PARTS, Split, split_studies
from rsna_lumbar.train.dataset.summary import GroupSummary, as_table, summarise
from rsna_lumbar.train.dataset.tables import LABELS, POINTS, SERIES, Tables, read_tables

PLAN = "prepare.json"
SUMMARY = "summary.json"
CARD = "card.json"
IMAGES = "train_images"
# Increased when the same options give other images in a new version of the package.
PICTURES = 2  # 2: upright, padding black

Track = Callable[[Iterable[SliceOutcome], str, int], Iterable[SliceOutcome]]


@dataclass(frozen=True, slots=True)
class _Work:
    """What the data sets of all groups share."""

    images: Path  # the folder train_images
    tables: Tables
    split: Split
    options: PrepareOptions
    workers: int
    track: Track | None


def prepare(
    root: Path, out: Path, options: PrepareOptions, *, workers: int = 1, track: Track | None = None
) -> list[GroupSummary]:
    """Write the three data sets, or continue to write them, or find them finished.

    Args:
        root: folder with the tables and ``train_images``.
        out: a folder that is new, empty, or was made with the same options and tables.
        workers: decoding processes.
        track: shows progress; called with an iterable, a group's name and the number of slices,
            returns the same items.

    Raises:
        DataError: the tables cannot be used, or ``out`` or ``OUT.partial`` contains something
            else: old slices of another split must not be trained on.
        UsageError: matplotlib, which draws the contact sheets, is not installed.
    """
    out = out.resolve()
    plan = _plan(root, options)
    if (out / PLAN).is_file():
        _require_same(out, plan)
        return _read_summaries(out / SUMMARY)
    prepare_third_party("figures")  # before anything is written
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; name a new one")
    tables = read_tables(root)
    split = split_studies(tables, options.folds)
    work = _Work(root / IMAGES, tables, split, options, workers, track)
    partial = out.with_name(f"{out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with sole_user(partial):
        _claim(partial, plan)
        for part, studies in (("train", split.train), ("val", split.val)):
            write_atomically(partial / f"{part}_studies.csv", "\n".join(["study_id", *studies, ""]))
        summaries = [_prepare_group(work, partial / group.name, group) for group in GROUPS]
        _write_summaries(partial, summaries, tables)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    return summaries


def _plan(root: Path, options: PrepareOptions) -> str:
    paths = [root / name for name in (LABELS, POINTS, SERIES)]
    fields = {
        "options": asdict(options),
        "tables": {path.name: sha256_of(path) for path in paths if path.is_file()},
        "versions": {DISTRIBUTION: metadata.version(DISTRIBUTION), "pictures": PICTURES},
    }
    return json.dumps(fields, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _claim(partial: Path, plan: str) -> None:
    """Take over the work of an interrupted run with the same plan, if there is any."""
    if (partial / PLAN).exists():
        _require_same(partial, plan)
    elif any(path.name != f".{PLAN}.part" for path in partial.iterdir()):
        raise DataError(f"{partial} is in the way: remove it, or name another folder")
    else:
        write_atomically(partial / PLAN, plan)


def _require_same(folder: Path, plan: str) -> None:
    try:
        before = json.loads((folder / PLAN).read_bytes())
        kinds = [(kind, before[kind], now) for kind, now in json.loads(plan).items()]
        other = [
            f"{kind}.{name}"
            for kind, old, now in kinds
            for name in sorted({*old, *now})
            if old.get(name) != now.get(name)
        ]
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{folder / PLAN} is damaged; remove {folder}") from error
    if other:
        raise DataError(
            f"{folder} was made with other {', '.join(other)}; remove it, or name another folder"
        )


def _prepare_group(work: _Work, out: Path, group: Group) -> GroupSummary:
    points, left_out = annotate(work.tables, group)
    for part in PARTS:
        (out / "images" / part).mkdir(parents=True, exist_ok=True)
        (out / "labels" / part).mkdir(parents=True, exist_ok=True)
    jobs = list(_jobs(work, out, points, work.options.boxes[group.name]))
    made = _outcomes(out / slice_index.NAME, jobs, work.workers)
    outcomes = list(work.track(made, group.name, len(jobs)) if work.track else made)
    points["reason"] = list(chain.from_iterable(outcome.reasons for outcome in outcomes))
    points["part"] = points["study_id"].map(work.split.part_of)
    used, unused = points[points["reason"] == ""], points[points["reason"] != ""]
    left_out = pd.concat([left_out, unused])[list(LEFT_OUT_COLUMNS)]
    summary = summarise(group, used, _images(jobs, outcomes), left_out)
    ordered = left_out.sort_values(list(LEFT_OUT_COLUMNS))
    write_atomically(out / "left_out.csv", ordered.to_csv(index=False, lineterminator="\n"))
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(group.classes))
    # Without "path", ultralytics uses the folder of this file: the data set can be moved.
    text = f"train: images/train\nval: images/val\nchannels: 1\nnames:\n{names}"
    write_atomically(out / "data.yaml", text)
    sheet, seed = out / "contact_sheet.png", work.options.folds.seed
    write_contact_sheet(out, sheet, group.name, group.classes, seed=seed)
    _write_json(out / CARD, _card(work, group, summary))
    return summary


def _jobs(work: _Work, out: Path, points: pd.DataFrame, box: BoxSize) -> Iterator[SliceJob]:
    """One per slice, in the order of the points."""
    part_of = work.split.part_of
    columns = ["study_id", "series_id", "instance_number", "class_index", "x", "y"]
    rows = points[columns].itertuples(index=False, name=None)
    for (study, series, instance), of_slice in groupby(rows, key=lambda row: row[:3]):
        part, name = part_of[study], f"{study}_{series}_{instance}"
        yield SliceJob(
            name=name,
            part=part,
            source=work.images / study / series / f"{instance}.dcm",
            image=out / "images" / part / f"{name}.png",
            label=out / "labels" / part / f"{name}.txt",
            points=tuple(Point(int(index), float(x), float(y)) for *_, index, x, y in of_slice),
            box=box,
            options=work.options,
        )


def _outcomes(index: Path, jobs: list[SliceJob], workers: int) -> Iterator[SliceOutcome]:
    """The outcomes of all jobs in order: first those that an earlier run finished."""
    finished = slice_index.read_outcomes(index, jobs)
    yield from finished
    rest = jobs[len(finished) :]
    try:
        yield from slice_index.record(index, rest, map_ahead(write_slice, rest, workers=workers))
    except BrokenProcessPool as error:
        raise DataError(
            "a decoding process died: out of memory, or a decoder crashed on a damaged file; start "
            f"again to continue. If it dies again: with --workers 1 the file is the labelled slice "
            f"after the last line of {index}"
        ) from error


def _images(jobs: list[SliceJob], outcomes: list[SliceOutcome]) -> dict[str, dict[str, int]]:
    """A Standing -> part -> number of images written."""
    written = Counter(
        (one.standing, job.part) for job, one in zip(jobs, outcomes, strict=True) if one.image_bytes
    )
    return {one.value: {part: written[one, part] for part in PARTS} for one in Standing}


def _card(work: _Work, group: Group, summary: GroupSummary) -> dict[str, Any]:
    labels, split, options = work.tables.labels, work.split, work.options
    training = labels[labels["study_id"].isin(split.train)]
    return {
        "group": group.name,
        "size_px": options.size_px,
        "preprocessing": asdict(options.preprocessing),
        "prior": class_prior(training, group.locations).tolist(),
        "box": asdict(options.boxes[group.name]),
        "least_box_px": options.least_box_px,
        "labels": asdict(options.scheme),
        "split": {
            **asdict(options.folds),
            "studies": {"train": len(split.train), "val": len(split.val)},
        },
        "images": dict(summary.images),
        "standing": dict(summary.standing),
        "classes": {name: dict(counts) for name, counts in summary.classes.items()},
        "left_out": summary.left_out,
        "empty_labels_of_all_groups": work.tables.empty_labels,
    }


def _write_json(path: Path, fields: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(fields, indent=2, allow_nan=False) + "\n")


def _write_summaries(out: Path, summaries: list[GroupSummary], tables: Tables) -> None:
    text = "\n\n".join(map(as_table, summaries))
    empty = f"{tables.empty_labels} cells of {LABELS} are empty"
    write_atomically(out / "summary.txt", f"{text}\n\n{empty}\n")
    fields = {
        "studies": len(tables.studies),
        "empty_labels": tables.empty_labels,
        "groups": [asdict(summary) for summary in summaries],
    }
    _write_json(out / SUMMARY, fields)


def _read_summaries(path: Path) -> list[GroupSummary]:
    try:
        return [GroupSummary(**fields) for fields in json.loads(path.read_bytes())["groups"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; remove {path.parent} and prepare again") from error
