"""Tables and DICOM -> one YOLO data set per group.

    OUT/prepare.json                                 what decides the bytes: options, tables' hashes
    OUT/{train,val}_studies.csv                      study_id
    OUT/summary.json, summary.txt                    counts per class, part and reason
    OUT/<group>/data.yaml                            class names in canonical order, one channel
    OUT/<group>/images/{train,val}/<study>_<series>_<instance>.png
    OUT/<group>/labels/{train,val}/<study>_<series>_<instance>.txt
    OUT/<group>/slices.csv                           every slice with a usable label, and its fate
    OUT/<group>/left_out.csv                         every label and point not used, and why
    OUT/<group>/contact_sheet.png                    random boxes of each class, to look at
    OUT/<group>/card.json                            settings, prior rows, counts

Only slices that carry a label are decoded: an unlabelled neighbour shows the same anatomy and
must not be taught as background. All is written into ``OUT.partial``, which becomes OUT in one
step at the end. Killed and started again, it goes on where it was; the same options give the same
bytes, whatever the workers and however often it was interrupted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from importlib import metadata
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pandas as pd

from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.system.atomic_files import sole_user, write_atomically
from rsna_lumbar.runtime.system.entry_point import DISTRIBUTION
from rsna_lumbar.runtime.system.processes import map_ahead
from rsna_lumbar.train.dataset import slice_index
from rsna_lumbar.train.dataset.annotations import LEFT_OUT_COLUMNS, annotate
from rsna_lumbar.train.dataset.boxes import LEAST_BOX_PX, METHOD_BOX, BoxSize, Point
from rsna_lumbar.train.dataset.contact_sheet import write_contact_sheet
from rsna_lumbar.train.dataset.label_scheme import LabelScheme
from rsna_lumbar.train.dataset.prior import class_prior
from rsna_lumbar.train.dataset.slice_images import (
    Recipe,
    SliceJob,
    SliceOutcome,
    Standing,
    write_slice,
)
from rsna_lumbar.train.dataset.split import PARTS, Folds, Split, split_studies
from rsna_lumbar.train.dataset.summary import GroupSummary, as_table, summarise
from rsna_lumbar.train.dataset.tables import LABELS, POINTS, SERIES, Tables, read_tables

PLAN = "prepare.json"
SUMMARY = "summary.json"
CARD = "card.json"
IMAGES = "train_images"
# Counted up where the same options come to mean other images, between two versions of the package.
PICTURES = 2  # 2: upright, padding black

Track = Callable[[Iterable[SliceOutcome], str, int], Iterable[SliceOutcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """What decides the bytes written, beside the tables and the files."""

    size_px: int = 384
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    boxes: Mapping[str, BoxSize] = field(default_factory=lambda: dict(METHOD_BOX))  # by group
    least_box_px: float = LEAST_BOX_PX  # of the square
    scheme: LabelScheme = field(default_factory=LabelScheme)
    folds: Folds = field(default_factory=Folds)

    def recipe(self, group: Group) -> Recipe:
        return Recipe(
            size_px=self.size_px,
            preprocessing=self.preprocessing,
            box=self.boxes[group.name],
            least_box_px=self.least_box_px,
            scheme=self.scheme,
        )


def prepare(
    root: Path,
    out: Path,
    options: PrepareOptions,
    *,
    workers: int = 1,
    track: Track | None = None,
) -> list[GroupSummary]:
    """Write the three data sets, or go on with writing them, or find them finished.

    Args:
        root: folder with the tables and ``train_images``.
        out: a folder that is new, empty, or was made with the same options and tables.
        workers: decoding processes.
        track: shows progress; called with an iterable, a group's name and the number of slices,
            returns the same items.

    Raises:
        DataError: the tables cannot be used, or ``out`` or ``OUT.partial`` holds something else,
            for stale slices of another split would be trained on.
    """
    out = out.resolve()
    plan = _plan(root, options)
    if (out / PLAN).is_file():
        _require_same(out, plan)
        return _read_summaries(out / SUMMARY)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; name a new one")
    tables = read_tables(root)
    split = split_studies(tables, options.folds)
    partial = out.with_name(f"{out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with sole_user(partial):
        _claim(partial, plan)
        summaries = _prepare_all(
            root, partial, tables, split, options, workers, track or _untracked
        )
        if out.exists():
            out.rmdir()
        partial.rename(out)
    return summaries


def _prepare_all(
    root: Path,
    partial: Path,
    tables: Tables,
    split: Split,
    options: PrepareOptions,
    workers: int,
    track: Track,
) -> list[GroupSummary]:
    for part, studies in (("train", split.train), ("val", split.val)):
        write_atomically(partial / f"{part}_studies.csv", "\n".join(["study_id", *studies, ""]))
    summaries = [
        _prepare_group(root, partial / group.name, group, tables, split, options, workers, track)
        for group in GROUPS
    ]
    _write_summaries(partial, summaries, tables)
    return summaries


def _plan(root: Path, options: PrepareOptions) -> str:
    tables = {name: sha256_of(root / name) for name in (LABELS, POINTS, SERIES)
              if (root / name).is_file()}  # fmt: skip
    fields = {
        "options": asdict(options),
        "tables": tables,
        "versions": {DISTRIBUTION: metadata.version(DISTRIBUTION), "pictures": PICTURES},
    }
    return json.dumps(fields, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _claim(partial: Path, plan: str) -> None:
    """Take over what an interrupted run with the same plan left in the folder, if anything."""
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


def _prepare_group(
    root: Path,
    out: Path,
    group: Group,
    tables: Tables,
    split: Split,
    options: PrepareOptions,
    workers: int,
    track: Track,
) -> GroupSummary:
    points, left_out = annotate(tables, group)
    for part in PARTS:
        (out / "images" / part).mkdir(parents=True, exist_ok=True)
        (out / "labels" / part).mkdir(parents=True, exist_ok=True)
    jobs = list(_jobs(root / IMAGES, out, points, split, options.recipe(group)))
    outcomes = list(track(_outcomes(out, jobs, workers), group.name, len(jobs)))
    points["reason"] = list(chain.from_iterable(outcome.reasons for outcome in outcomes))
    points["part"] = points["study_id"].map(split.part_of)
    used, unused = points[points["reason"] == ""], points[points["reason"] != ""]
    left_out = pd.concat([left_out, unused])[list(LEFT_OUT_COLUMNS)]
    summary = summarise(group, used, _images(jobs, outcomes), left_out)
    _write_left_out(out / "left_out.csv", left_out)
    _write_data_yaml(out / "data.yaml", group)
    write_contact_sheet(out, out / "contact_sheet.png", seed=options.folds.seed)
    card = _card(group, tables, split, options, summary)
    write_atomically(out / CARD, json.dumps(card, indent=2, allow_nan=False) + "\n")
    return summary


def _jobs(
    images: Path, out: Path, points: pd.DataFrame, split: Split, recipe: Recipe
) -> Iterator[SliceJob]:
    """One for each slice, in the order of the points."""
    columns = ["study_id", "series_id", "instance_number", "class_index", "x", "y"]
    rows = points[columns].itertuples(index=False, name=None)
    for (study, series, instance), of_slice in groupby(rows, key=lambda row: row[:3]):
        part, name = split.part_of[study], f"{study}_{series}_{instance}"
        yield SliceJob(
            name=name,
            part=part,
            source=images / study / series / f"{instance}.dcm",
            image=out / "images" / part / f"{name}.png",
            label=out / "labels" / part / f"{name}.txt",
            points=tuple(Point(int(index), float(x), float(y)) for *_, index, x, y in of_slice),
            recipe=recipe,
        )


def _outcomes(out: Path, jobs: list[SliceJob], workers: int) -> Iterator[SliceOutcome]:
    """Of all jobs in order: those that an earlier run finished, then the others."""
    index = out / slice_index.NAME
    finished = slice_index.read_outcomes(index, jobs)
    yield from finished
    rest = jobs[len(finished) :]
    try:
        yield from slice_index.record(index, rest, map_ahead(write_slice, rest, workers=workers))
    except BrokenProcessPool as error:
        raise DataError(
            "a decoding process died: out of memory, or a decoder crashed on a damaged file; start "
            f"again to go on. If it dies again: with --workers 1 the file is the labelled slice "
            f"after the last line of {index}"
        ) from error


def _images(jobs: list[SliceJob], outcomes: list[SliceOutcome]) -> dict[str, dict[str, int]]:
    """A Standing -> part -> images written."""
    written = Counter(
        (one.standing, job.part) for job, one in zip(jobs, outcomes, strict=True) if one.image_bytes
    )
    return {one.value: {part: written[one, part] for part in PARTS} for one in Standing}


def _write_left_out(path: Path, left_out: pd.DataFrame) -> None:
    ordered = left_out.sort_values(list(LEFT_OUT_COLUMNS))
    write_atomically(path, ordered.to_csv(index=False, lineterminator="\n"))


def _write_data_yaml(path: Path, group: Group) -> None:
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(group.classes))
    # Without "path", ultralytics takes the folder of this file: the data set can be moved.
    write_atomically(path, f"train: images/train\nval: images/val\nchannels: 1\nnames:\n{names}")


def _card(
    group: Group, tables: Tables, split: Split, options: PrepareOptions, summary: GroupSummary
) -> dict[str, Any]:
    training = tables.labels[tables.labels["study_id"].isin(split.train)]
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
        "empty_labels_of_all_groups": tables.empty_labels,
    }


def _write_summaries(out: Path, summaries: list[GroupSummary], tables: Tables) -> None:
    text = "\n\n".join(map(as_table, summaries))
    empty = f"{tables.empty_labels} cells of {LABELS} are empty"
    write_atomically(out / "summary.txt", f"{text}\n\n{empty}\n")
    fields = {
        "studies": len(tables.studies),
        "empty_labels": tables.empty_labels,
        "groups": [asdict(summary) for summary in summaries],
    }
    write_atomically(out / SUMMARY, json.dumps(fields, indent=2, allow_nan=False) + "\n")


def _read_summaries(path: Path) -> list[GroupSummary]:
    try:
        return [GroupSummary(**fields) for fields in json.loads(path.read_bytes())["groups"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; remove {path.parent} and prepare again") from error


def _untracked(outcomes: Iterable[SliceOutcome], _: str, __: int) -> Iterable[SliceOutcome]:
    return outcomes
