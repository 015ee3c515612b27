"""One run of rsna-bench: weights, slices, all sizes, results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from rsna_lumbar.benchmarks.contenders import CALIBRATION_SLICES, make_work
from rsna_lumbar.benchmarks.machine import describe_machine, versions
from rsna_lumbar.benchmarks.measure import Comparison, compare
from rsna_lumbar.benchmarks.report import Conditions, as_csv, as_table
from rsna_lumbar.export.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.export.random_weights import random_detector, save_checkpoint, textured_slices
from rsna_lumbar.runtime.labels import Group
from rsna_lumbar.runtime.processes import usable_cores

import torch  # isort: skip  # after the export package, which sets its switches

RANDOM_WEIGHTS_CHANNELS = 3  # as the method's pretrained checkpoints have
SERIES_SEED = 1
CALIBRATION_NOTE = (
    f"{CALIBRATION_SLICES} textured slices, not on data: that is enough for its time, "
    "and says nothing about its accuracy"
)


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is timed, and how."""

    weights: Path | None
    sizes_px: tuple[int, ...]
    scale: str
    group: Group
    batch_size: int
    series_slices: int
    rounds: int
    threads: int | None


def run_benchmark(options: BenchOptions, folder: Path) -> tuple[str, str]:
    """Compare all contenders at all sizes; return the table and the CSV."""
    threads = options.threads or usable_cores()
    torch.set_num_threads(threads)
    checkpoint = _checkpoint(options, folder)
    found = []
    total = options.rounds * len(options.sizes_px)
    with tqdm(desc="timing", unit=" round", total=total, disable=None, leave=False) as bar:
        for size_px in options.sizes_px:
            work = make_work(
                checkpoint,
                size_px=size_px,
                batch_size=options.batch_size,
                threads=threads,
                folder=folder,
            )
            series = textured_slices(options.series_slices, size_px, seed=SERIES_SEED)
            found.append(compare(work, series, rounds=options.rounds, progress=bar.update))
    rows = [row for one in found for row in one.rows]
    conditions = _conditions(options, checkpoint, threads, found)
    return as_table(rows, conditions), as_csv(rows, conditions)


def _conditions(
    options: BenchOptions, checkpoint: Checkpoint, threads: int, found: Sequence[Comparison]
) -> Conditions:
    missing = dict.fromkeys(
        f"{contender} ({why})" for one in found for contender, why in one.missing.items()
    )
    return Conditions(
        machine=describe_machine(),
        versions=versions(),
        model=options.weights.name if options.weights else f"YOLOv8{options.scale}, random weights",
        channels=checkpoint.channels,
        classes=len(checkpoint.group.classes),
        batch_size=options.batch_size,
        series_slices=options.series_slices,
        threads=threads,
        rounds=options.rounds,
        calibration=CALIBRATION_NOTE if options.weights else f"{CALIBRATION_SLICES} other slices",
        missing="; ".join(missing),
    )


def _checkpoint(options: BenchOptions, folder: Path) -> Checkpoint:
    if options.weights:
        return read_checkpoint(options.weights)
    path = folder / "random.pt"
    model = random_detector(options.group, scale=options.scale, channels=RANDOM_WEIGHTS_CHANNELS)
    save_checkpoint(model, path)
    return read_checkpoint(path, options.group)
