"""One run of rsna-bench: weights, slices, all sizes, results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from rsna_lumbar.benchmarks.contenders import Work
from rsna_lumbar.benchmarks.machine import describe_machine, versions
from rsna_lumbar.benchmarks.measure import compare
from rsna_lumbar.benchmarks.report import Conditions, as_csv, as_table
from rsna_lumbar.export.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.export.random_weights import random_detector, save_checkpoint, textured_slices
from rsna_lumbar.runtime.labels import Group
from rsna_lumbar.runtime.processes import usable_cores

import torch  # isort: skip  # after the export package, which sets its switches

RANDOM_WEIGHTS_CHANNELS = 3  # as the method's pretrained checkpoints have


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
    rows = []
    total = options.rounds * len(options.sizes_px)
    with tqdm(desc="timing", unit=" round", total=total, disable=None, leave=False) as bar:
        for size_px in options.sizes_px:
            work = Work(checkpoint, size_px, options.batch_size, threads, folder)
            series = textured_slices(options.series_slices, size_px, seed=1)
            rows += compare(work, series, rounds=options.rounds, progress=bar.update)
    conditions = Conditions(
        machine=describe_machine(),
        versions=versions(),
        model=options.weights.name if options.weights else f"YOLOv8{options.scale}, random weights",
        channels=checkpoint.channels,
        classes=len(checkpoint.group.classes),
        batch_size=options.batch_size,
        series_slices=options.series_slices,
        precision="float32",
        threads=threads,
        rounds=options.rounds,
    )
    return as_table(rows, conditions), as_csv(rows, conditions)


def _checkpoint(options: BenchOptions, folder: Path) -> Checkpoint:
    if options.weights:
        return read_checkpoint(options.weights)
    path = folder / "random.pt"
    model = random_detector(options.group, scale=options.scale, channels=RANDOM_WEIGHTS_CHANNELS)
    save_checkpoint(model, path)
    return read_checkpoint(path, options.group)
