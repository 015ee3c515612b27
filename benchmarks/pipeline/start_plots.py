"""The start as a picture: wall time, and for one study how much of it is not inference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsna_lumbar.benchmarks.harness.report import Results
from rsna_lumbar.benchmarks.model.plots import add_footer, new_figure, png
from rsna_lumbar.benchmarks.pipeline.plots import broken
from rsna_lumbar.benchmarks.pipeline.start_report import MOST_OVERHEAD_S
from rsna_lumbar.runtime.system.atomic_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

START_COLOUR, INFERENCE_COLOUR, AIM_COLOUR = "#3182BD", "#BDBDBD", "#D55E00"
BAR = 0.62


def draw_start(results: Results, path: Path) -> None:
    """Write a PNG.

    Args:
        results: from :func:`rsna_lumbar.benchmarks.pipeline.start_report.make_results`.
        path: replaced at once.
    """
    (_, bare), (_, studies) = results.blocks
    figure = new_figure(
        12.0, 2.0 + 0.42 * max(len(bare), len(studies)), f"Start: {results.conditions['model']}"
    )
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    for axes, rows in ((left, bare), (right, studies)):
        for place, row in enumerate(rows):
            _draw_row(axes, row, place)
        names = [str(row["contender"]).removeprefix("one study, ") for row in rows]
        axes.set_yticks(range(len(rows)), [broken(name) for name in names], fontsize=9)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.4 * max(row["wall_s"].high for row in rows))
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
    left.set_xlabel("wall seconds of a fresh process (line: range of the rounds)")
    right.set_xlabel("wall seconds, one study, a fresh process")
    right.plot([], [], color=AIM_COLOUR, label=f"aim: {MOST_OVERHEAD_S} s beside inference")
    right.axvline(MOST_OVERHEAD_S, color=AIM_COLOUR, linestyle="--", linewidth=1.2)
    handles, labels = right.get_legend_handles_labels()
    kept = dict(zip(labels, handles, strict=True))
    right.legend(
        kept.values(),
        kept.keys(),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(kept),
        fontsize=8,
        frameon=False,
    )
    add_footer(figure, results)
    write_atomically(path, png(figure))


def _draw_row(axes: Axes, row: Mapping[str, Any], place: int) -> None:
    wall = row["wall_s"]
    overhead = row.get("overhead_s")
    first = wall.median if overhead is None else overhead.median
    axes.barh(place, first, BAR, color=START_COLOUR, label="all but inference")
    words = f"{wall.median:.2f} s"
    if overhead is not None:
        inference = row["inference_s"].median
        axes.barh(place, inference, BAR, left=first, color=INFERENCE_COLOUR, label="inference")
        words = f"{overhead.median:.2f} s + {inference:.2f} s"
    axes.plot((wall.low, wall.high), (place, place), color="black", linewidth=1)
    axes.annotate(
        words,
        (max(wall.high, wall.median), place),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
    )
