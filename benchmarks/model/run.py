"""One run of ``rsna-bench model``: weights, slices, every size and batch, results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from tqdm import tqdm

from rsna_lumbar.benchmarks.harness.bench_bundle import random_checkpoint
from rsna_lumbar.benchmarks.harness.machine import machine_conditions
from rsna_lumbar.benchmarks.harness.report import Block, Results
from rsna_lumbar.benchmarks.model.contenders import Contender
from rsna_lumbar.benchmarks.model.engines import CALIBRATION_SLICES
from rsna_lumbar.benchmarks.model.measure import (
    SHARE_OF_MEMORY,
    TimedBlock,
    memory_needed,
    time_block,
)
from rsna_lumbar.benchmarks.model.peak import Product, find_peaks
from rsna_lumbar.benchmarks.model.rows import COLUMNS, NOTES, block_rows, block_title, highest_peaks
from rsna_lumbar.benchmarks.model.work import Work, make_work
from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import Group
from rsna_lumbar.runtime.system.cores import usable_cores

import torch  # isort: skip  # after the export package, which sets its switches

SERIES_SEED = 1


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
    block_s: float  # longest time for a size and batch, unless three rounds take longer
    threads: int | None
    command: str


def run_benchmark(options: ModelOptions, folder: Path) -> Results:
    """Compare the contenders at all sizes and batches.

    Raises:
        UsageError: no size and batch fits into memory.
    """
    threads = options.threads or usable_cores()
    torch.set_num_threads(threads)
    if options.weights:
        checkpoint = read_checkpoint(options.weights)
    else:
        path = random_checkpoint(folder, options.group, options.scale)
        checkpoint = read_checkpoint(path, options.group)
    precisions = dict.fromkeys(one.precision for one in options.contenders)
    found = [peak for name in precisions for peak in find_peaks(name, threads=threads)]
    products = [peak.product for peak in found]
    blocks, skipped = _blocks(options, checkpoint, threads, folder, products)
    if not blocks:
        raise UsageError("; ".join(skipped))
    peaks = highest_peaks(found, blocks)
    model = options.weights.name if options.weights else f"YOLOv8{options.scale}, random weights"
    absent = [f"{one} ({why})" for block in blocks for one, why in block.missing.items()]
    notes = [f"not measured: {one}" for one in dict.fromkeys((*skipped, *absent))]
    if "int8" in precisions:
        notes.append(f"int8 is calibrated on {CALIBRATION_SLICES} textured slices, not on data")
    return Results(
        part="model",
        command=options.command,
        conditions={
            "model": f"{model}, {checkpoint.channels} channels, "
            f"{len(checkpoint.group.classes)} classes",
            "series": f"{options.series_slices} slices",
            "threads": threads,
            **{f"peak {name}": str(peak) for name, peak in peaks.items()},
            **machine_conditions(),
        },
        blocks=tuple(
            Block(block_title(block), COLUMNS, block_rows(block, peaks)) for block in blocks
        ),
        notes=(*notes, *NOTES),
    )


def _blocks(
    options: ModelOptions,
    checkpoint: Checkpoint,
    threads: int,
    folder: Path,
    products: Sequence[Product],
) -> tuple[list[TimedBlock], list[str]]:
    """One for each size and batch, and the reasons for those that are left out."""
    found: list[TimedBlock] = []
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
    """The reason for not trying a batch; empty if it is tried."""
    needed, available = memory_needed(work, contenders), psutil.virtual_memory().available
    if needed <= SHARE_OF_MEMORY * available:
        return ""
    return (
        f"{work.size_px} px, batch {work.batch_size}: {contenders} contenders need about "
        f"{needed / 2**30:.0f} GiB of {available / 2**30:.0f}; choose fewer with --contenders"
    )
