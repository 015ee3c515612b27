"""The plot of ``rsna-bench model``, for each size: slices per second by batch size, if there are
several, and speed-ups at one batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rsna_lumbar.benchmarks.harness.plot import Bar, Line, Panel, Piece, draw
from rsna_lumbar.benchmarks.harness.report import Results, RowValues
from rsna_lumbar.benchmarks.model.contenders import BASELINE

SHOWN_BATCH = 16  # of the bars, or the largest if it was not timed
# By the library that computes: safe for the colour-blind.
COLOURS = {
    "pytorch": "#555555",
    "predict": "#CC79A7",
    "ultralytics": "#E69F00",
    "onnx": "#0072B2",
    "openvino": "#009E73",
}
MARKERS = {"fp32": "o", "bf16": "s", "int8": "^"}


def draw_model(results: Results, path: Path) -> None:
    """Write a PNG file.

    Raises:
        UsageError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    rows = [row for block in results.blocks for row in block.rows]
    panels = []
    for size_px in sorted({row["size_px"] for row in rows}):
        of_size = [row for row in rows if row["size_px"] == size_px]
        batches = {row["batch_size"] for row in of_size}
        batch = SHOWN_BATCH if SHOWN_BATCH in batches else max(batches)
        bars = [_speed_up(row) for row in of_size if row["batch_size"] == batch]
        xlabel = f"times as fast as {BASELINE.name} (median; line: range of the rounds)"
        title = f"{size_px} px, batch {batch}"
        panels.append([Panel(title=title, xlabel=xlabel, bars=bars, mark=1.0)])
        if len(batches) > 1:
            lines = [
                _rates([row for row in of_size if row["contender"] == key])
                for key in dict.fromkeys(row["contender"] for row in of_size)
            ]
            rates = Panel(
                title=f"{size_px} px",
                xlabel="slices in a batch",
                ylabel="slices per second (median)",
                lines=lines,
            )
            panels[-1].insert(0, rates)
    draw(results, f"{results.conditions['model']}: scoring slices on a CPU", panels, path)


def _rates(rows: Sequence[RowValues]) -> Line:
    """Of one contender."""
    first = rows[0]
    points = sorted((row["batch_size"], 1e3 / row["slice_ms"].median) for row in rows)
    width = 2.2 if first["contender"] == BASELINE.key else 1.3
    return Line(_label(first), points, _colour(first), MARKERS[first["precision"]], width)


def _speed_up(row: RowValues) -> Bar:
    found = row["speed_up"]
    text = f"{found.median:.2f}x, {row['share_of_peak']:.0%} of peak"
    piece = Piece(found.median, _colour(row))
    return Bar(_label(row), (piece,), text, (found.low, found.high))


def _label(row: RowValues) -> str:
    return f"{row['name']} {row['precision']}"


def _colour(row: RowValues) -> str:
    return COLOURS[row["contender"].partition("-")[0]]
