"""Results as a table for a person and as CSV for a program."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from rsna_lumbar.benchmarks.contenders import BASELINE
from rsna_lumbar.benchmarks.measure import Row


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a figure means nothing without."""

    machine: str
    versions: str
    model: str
    channels: int
    classes: int
    batch_size: int
    series_slices: int
    threads: int
    rounds: int
    calibration: str  # of the int8 graphs
    missing: str  # contenders that could not be had, with the reason; empty where none


HEADINGS = (
    "",
    "precision",
    "ms/slice",
    "p95",
    "ms/series",
    "p95",
    "speed-up",
    "(range)",
    "max diff",
)


def as_table(rows: Sequence[Row], conditions: Conditions) -> str:
    """One block a size; below it what could not be had, and the conditions."""
    blocks = []
    for size_px in sorted({row.size_px for row in rows}):
        cells = [HEADINGS, *(_cells(row) for row in rows if row.size_px == size_px)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [f"{size_px} px"]
        for line in cells:
            first, *rest = (
                cell.ljust(width) if index == 0 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            lines.append("  ".join((first, *rest)).rstrip())
        blocks.append("\n".join(lines))
    return "\n\n".join((*blocks, _conditions_text(conditions)))


def as_csv(rows: Sequence[Row], conditions: Conditions) -> str:
    """A line a row, the conditions repeated in every line."""
    text = io.StringIO()
    names = [field.name for kind in (Row, Conditions) for field in fields(kind)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = {**asdict(row), **asdict(conditions)}
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})
    return text.getvalue()


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.contender,
        row.precision,
        f"{row.slice_median_ms:.2f}",
        f"{row.slice_p95_ms:.2f}",
        f"{row.series_median_ms:.0f}",
        f"{row.series_p95_ms:.0f}",
        f"{row.ratio:.2f}x",
        f"{row.ratio_low:.2f}-{row.ratio_high:.2f}",
        f"{row.largest_difference:.1e}",
    )


def _conditions_text(conditions: Conditions) -> str:
    return "\n".join(
        (
            *((f"not measured: {conditions.missing}",) if conditions.missing else ()),
            f"{conditions.model}, {conditions.channels} channels, {conditions.classes} classes; "
            f"batch {conditions.batch_size}, a series is {conditions.series_slices} slices; "
            f"{conditions.rounds} interleaved rounds, {conditions.threads} threads",
            f"speed-up: {BASELINE.name}'s time over this one's in the same round, per slice: "
            "median, lowest and highest round",
            f"max diff: largest difference of a probability of the series from {BASELINE.name}",
            f"int8 is calibrated on {conditions.calibration}",
            conditions.machine,
            conditions.versions,
        )
    )
