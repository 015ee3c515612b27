"""The pipeline's figures as a picture: seconds a study, and where they go."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rsna_lumbar.benchmarks.harness.fresh_runs import METHOD
from rsna_lumbar.benchmarks.harness.report import Results
from rsna_lumbar.benchmarks.model.plots import add_footer, new_figure, png
from rsna_lumbar.benchmarks.pipeline.report import studies
from rsna_lumbar.runtime.system.atomic_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Light to dark for growing numbers of studies; ours, and what is compared with.
COLOURS = ("#9ECAE1", "#3182BD", "#08519C")
GREYS = ("#CFCFCF", "#8C8C8C", "#5A5A5A")
LIMIT_COLOUR = "#D55E00"
STAGES = {  # key of a row -> colour and title
    "decode_s": ("#E69F00", "decode"),
    "preprocess_s": ("#F0E442", "preprocess"),
    "infer_s": ("#0072B2", "infer"),
}
# Too thin to see in seconds a study, so they stand in the table alone: walk and write.
BAR = 0.8  # of the room that a contender has
ROOM = 1.32  # to the right of the longest bar, for its label


def draw_pipeline(results: Results, path: Path) -> None:
    """Write a PNG: fresh processes on the left, stages on the right.

    Args:
        results: from :func:`rsna_lumbar.benchmarks.pipeline.report.make_results`.
        path: replaced at once.
    """
    runs = [rows for _, rows in results.blocks if rows and "s_per_study" in rows[0]]
    stages = next((rows for _, rows in results.blocks if rows and "infer_s" in rows[0]), ())
    names = [str(row["contender"]) for row in max(runs, key=len)]
    height = 2.3 + 0.34 * len(names) * max(1.6, len(runs))
    figure = new_figure(13.0, height, f"DICOM to submission: {results.conditions['model']}")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_runs(left, names, runs, stages)
    _draw_stages(right, names, stages, _stage_count(results))
    add_footer(figure, results)
    write_atomically(path, png(figure))


def broken(name: str) -> str:
    """A contender's name on lines short enough for an axis."""
    return "\n".join(textwrap.wrap(name, 22, break_on_hyphens=False))


def _draw_runs(
    axes: Axes,
    names: Sequence[str],
    runs: Sequence[Sequence[Mapping[str, Any]]],
    stages: Sequence[Mapping[str, Any]],
) -> None:
    """A bar for each number of studies; the share of the limit is marked where it is known."""
    thickness = BAR / len(runs)
    longest = max(row["wall_s"].high / row["studies"] for rows in runs for row in rows)
    for place, rows in enumerate(runs):
        for row in rows:
            middle = names.index(row["contender"]) - BAR / 2 + (place + 0.5) * thickness
            _draw_run(axes, row, middle, thickness, place, labelled=row is rows[-1])
    _draw_limits(axes, names, runs, stages)
    axes.set_yticks(range(len(names)), [broken(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, longest * ROOM)
    axes.set_xlabel("seconds a study, each run a fresh process (line: range of the rounds)")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", framealpha=1, edgecolor="0.85", fontsize=9, markerscale=0.5)


def _draw_run(
    axes: Axes,
    row: Mapping[str, Any],
    middle: float,
    thickness: float,
    place: int,
    *,
    labelled: bool,
) -> None:
    count = row["studies"]
    seconds = row["s_per_study"]
    colour = (
        GREYS[place % len(GREYS)] if row["contender"] == METHOD else COLOURS[place % len(COLOURS)]
    )
    axes.barh(
        middle, seconds, thickness * 0.9, color=colour, label=studies(count) if labelled else None
    )
    spread = row["wall_s"].low / count, row["wall_s"].high / count
    axes.plot(spread, (middle, middle), color="black", linewidth=1)
    ratio = row["ratio"]
    words = f"{seconds:.2f} s" + (f", {ratio.median:.1f}x" if ratio is not None else "")
    axes.annotate(
        words,
        (max(seconds, spread[1]), middle),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
    )


def _draw_limits(
    axes: Axes,
    names: Sequence[str],
    runs: Sequence[Sequence[Mapping[str, Any]]],
    stages: Sequence[Mapping[str, Any]],
) -> None:
    """What the larger number of studies cannot go below."""
    limited = [any(row["of_limit"] is not None for row in rows) for rows in runs]
    if True not in limited:
        return
    place = limited.index(True)
    count = runs[place][0]["studies"]
    thickness = BAR / len(runs)
    title: str | None = f"limit: the larger of decode only and infer only, {studies(count)}"
    for row in stages:
        if row.get("infer_only_s") is None:
            continue
        limit = max(row["decode_only_s"].median, row["infer_only_s"].median) / count
        middle = names.index(row["contender"]) - BAR / 2 + (place + 0.5) * thickness
        axes.plot(
            limit, middle, color=LIMIT_COLOUR, label=title, marker="|", linestyle="", ms=22, mew=2.2
        )
        title = None


def _draw_stages(
    axes: Axes, names: Sequence[str], stages: Sequence[Mapping[str, Any]], count: int
) -> None:
    """Each stage alone, end to end."""
    rows = {str(row["contender"]).removesuffix(" (in its own run)"): row for row in stages}
    starts = np.zeros(len(names))
    for key, (colour, title) in STAGES.items():
        values = np.array([_per_study(rows.get(name, {}), key, count) for name in names])
        axes.barh(range(len(names)), values, BAR * 0.6, left=starts, color=colour, label=title)
        starts += values
    for place, name in enumerate(names):
        if name in rows:
            axes.annotate(
                f"{starts[place]:.2f} s",
                (starts[place], place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, max(starts.max() * 1.15, 1e-9))
    axes.set_xlabel("seconds a study, models loaded, each stage alone")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", framealpha=1, edgecolor="0.85", fontsize=9, markerscale=0.5)


def _per_study(row: Mapping[str, Any], key: str, count: int) -> float:
    value = row.get(key)
    return 0.0 if value is None else float(value.median) / count


def _stage_count(results: Results) -> int:
    return int(results.conditions["stage studies"])  # type: ignore[arg-type]
