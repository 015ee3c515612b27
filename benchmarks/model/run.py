"""One run of ``rsna-bench model``: weights, slices, every size and batch, results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from tqdm import tqdm

from rsna_lumbar.benchmarks.harness.machine import describe_machine, versions
from rsna_lumbar.benchmarks.harness.report import Results
from rsna_lumbar.benchmarks.model.contenders import Contender
from rsna_lumbar.benchmarks.model.measure import SHARE_OF_MEMORY, Block, memory_needed, time_block
from rsna_lumbar.benchmarks.model.peak import Product, find_peaks
from rsna_lumbar.benchmarks.model.rows import COLUMNS, NOTES, block_rows, block_title, highest_peaks
from rsna_lumbar.benchmarks.model.work import CALIBRATION_SLICES, Work, make_work
from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.export.checkpoints.synthetic import (
    random_detector,
    save_checkpoint,
    textured_slices,
)
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import Group
from rsna_lumbar.runtime.system.cores import usable_cores

import torch  # isort: skip  # after the export package, which sets its switches

RANDOM_WEIGHTS_CHANNELS = 3  # as the method's pretrained checkpoints have
SERIES_SEED = 1
CALIBRATION_NOTE = (
    f"{CALIBRATION_SLICES} textured slices, not on data: that is enough for its time, "
    "and says nothing about its accuracy"
)


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What is timed, and how."""

    weights: Path | None
    sizes_px: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    contenders: tuple[Contender, ...]  # BASELINE among them
    scale: str
    group: Group
    series_slices: int
    rounds: int
    block_s: float  # most that a size and batch may take, unless it is less than three rounds
    threads: int | None
    command: str


def run_benchmark(options: ModelOptions, folder: Path) -> Results:
    """Compare the contenders at all sizes and batches.

    Raises:
        UsageError: no size and batch fits into memory.
    """
    threads = options.threads or usable_cores()
    torch.set_num_threads(threads)
    checkpoint = _checkpoint(options, folder)
    precisions = dict.fromkeys(one.precision for one in options.contenders)
    found = [peak for name in precisions for peak in find_peaks(name, threads=threads)]
    products = [peak.product for peak in found]
    blocks, skipped = _blocks(options, checkpoint, threads, folder, products)
    if not blocks:
        raise UsageError("; ".join(skipped))
    peaks = highest_peaks(found, blocks)
    return Results(
        part="model",
        command=options.command,
        conditions={
            "model": _model_name(options, checkpoint),
            "series": f"{options.series_slices} slices",
            "threads": threads,
            **{f"peak {name}": str(peak) for name, peak in peaks.items()},
            "machine": describe_machine(),
            "versions": versions(),
        },
        columns=COLUMNS,
        blocks=tuple((block_title(block), block_rows(block, peaks)) for block in blocks),
        notes=(*_missing(blocks, skipped), *NOTES, *_calibration(options)),
    )


def _blocks(
    options: ModelOptions,
    checkpoint: Checkpoint,
    threads: int,
    folder: Path,
    products: Sequence[Product],
) -> tuple[list[Block], list[str]]:
    """One for each size and batch, and why others were left out."""
    found: list[Block] = []
    skipped: list[str] = []
    total = options.rounds * len(options.sizes_px) * len(options.batch_sizes)
    with tqdm(desc="timing", unit=" round", total=total, disable=None, leave=False) as bar:
        for size_px in options.sizes_px:
            common = make_work(
                checkpoint,
                size_px=size_px,
                batch_size=1,
                series_slices=options.series_slices,
                threads=threads,
                folder=folder,
            )
            count = max(options.series_slices, *options.batch_sizes)
            slices = textured_slices(count, size_px, seed=SERIES_SEED)
            for batch_size in options.batch_sizes:
                work = replace(common, batch_size=batch_size)
                if reason := _too_large(work, len(options.contenders)):
                    skipped.append(reason)
                    continue
                block = time_block(
                    work,
                    slices,
                    contenders=options.contenders,
                    products=products,
                    rounds=options.rounds,
                    within_s=options.block_s,
                    progress=bar.update,
                )
                found.append(block)
    return found, skipped


def _too_large(work: Work, contenders: int) -> str:
    """Why a batch is not tried; empty where it is."""
    needed, available = memory_needed(work, contenders), psutil.virtual_memory().available
    if needed <= SHARE_OF_MEMORY * available:
        return ""
    return (
        f"{work.size_px} px, batch {work.batch_size}: {contenders} contenders need about "
        f"{needed / 2**30:.0f} GiB of {available / 2**30:.0f}; choose fewer with --contenders"
    )


def _missing(blocks: Sequence[Block], skipped: Sequence[str]) -> tuple[str, ...]:
    absent = dict.fromkeys(
        f"{contender} ({why})" for block in blocks for contender, why in block.missing.items()
    )
    return tuple(f"not measured: {one}" for one in (*skipped, *absent))


def _calibration(options: ModelOptions) -> tuple[str, ...]:
    if all(one.precision != "int8" for one in options.contenders):
        return ()
    other = f"{CALIBRATION_SLICES} other slices"
    return (f"int8 is calibrated on {CALIBRATION_NOTE if options.weights else other}",)


def _model_name(options: ModelOptions, checkpoint: Checkpoint) -> str:
    name = options.weights.name if options.weights else f"YOLOv8{options.scale}, random weights"
    classes = len(checkpoint.group.classes)
    return f"{name}, {checkpoint.channels} channels, {classes} classes"


def _checkpoint(options: ModelOptions, folder: Path) -> Checkpoint:
    if options.weights:
        return read_checkpoint(options.weights)
    path = folder / "random.pt"
    model = random_detector(options.group, scale=options.scale, channels=RANDOM_WEIGHTS_CHANNELS)
    save_checkpoint(model, path)
    return read_checkpoint(path, options.group)
