"""Results of the part ``model`` as a PNG file.

A row of panels a size: slices a second by batch, where there are several, and the speed-up at one
batch, with the share of the machine's peak. Drawn through matplotlib's objects, never pyplot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from rsna_lumbar.benchmarks.harness.report import Results
from rsna_lumbar.benchmarks.model.contenders import BASELINE
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.atomic_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

DPI = 120
SHOWN_BATCH = 16  # of the bars, or the largest where it was not timed
MS = 1e3
CHARACTERS_AN_INCH = 17  # of the footer
# By what runs it: safe for the colour-blind. Precisions are told apart by marker and line.
COLOURS = {
    "pytorch": "#555555",
    "predict": "#CC79A7",
    "ultralytics": "#E69F00",
    "onnx": "#0072B2",
    "openvino": "#009E73",
}
MARKERS = {"fp32": "o", "bf16": "s", "int8": "^"}
LINES = {"fp32": "-", "bf16": "--", "int8": ":"}
LINES_OF = {  # several fp32 contenders share a colour
    "pytorch-fused": "--",
    "pytorch-channels-last": "-.",
    "pytorch-compile": ":",
    "ultralytics-openvino": "-.",
}
Row = Mapping[str, Any]


def draw_model(results: Results, path: Path) -> None:
    """Draw the rows of all sizes and batches.

    Raises:
        UsageError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    write_atomically(path, png(model_figure(results)))


def model_figure(results: Results) -> Figure:
    """A row of panels for each size."""
    rows = [row for _, block in results.blocks for row in block]
    sizes = sorted({row["size_px"] for row in rows})
    several = len({row["batch_size"] for row in rows}) > 1
    title = f"{results.conditions['model']}: scoring slices on a CPU"
    figure = new_figure(14 if several else 9, 1.2 + 4.4 * len(sizes) + 0.7 * several, title)
    heights = [4.4] * len(sizes) + [0.7] * several  # inches, the last of the legend
    grid = figure.add_gridspec(len(heights), 1 + several, height_ratios=heights)
    for place, size_px in enumerate(sizes):
        of_size = [row for row in rows if row["size_px"] == size_px]
        _draw_speed_ups(figure.add_subplot(grid[place, -1]), of_size)
        if several:
            lines = _draw_rates(figure.add_subplot(grid[place, 0]), of_size)
    if several:
        legend = figure.add_subplot(grid[-1, :])
        legend.set_axis_off()
        legend.legend(handles=lines, loc="center", ncols=4, frameon=False, fontsize=8)
    add_footer(figure, results)
    return figure


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure, in inches.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise UsageError("matplotlib is not installed: pip install 'rsna-lumbar[bench]'") from error
    margins = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    figure = Figure(figsize=(width, height), dpi=DPI, layout=margins)
    figure.suptitle(title, fontsize=12)
    return figure


def add_footer(figure: Figure, results: Results) -> None:
    """Machine, threads, batch where it is one for all, versions: small, below everything."""
    said = results.conditions
    batch = f", batch {said['batch size']}" if said.get("batch size") else ""
    lines = (
        f"{said['machine']}, {said['threads']} threads{batch}",
        said["versions"],
        results.command,
    )
    columns = int(CHARACTERS_AN_INCH * figure.get_figwidth())
    text = "\n".join(fill(str(line), columns, break_on_hyphens=False) for line in lines)
    figure.supxlabel(text, fontsize=6.5, color="0.35", x=0.01, ha="left")


def png(figure: Figure) -> bytes:
    """The file's content."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png")
    return content.getvalue()


def _draw_rates(axes: Axes, rows: Sequence[Row]) -> list[Line2D]:
    drawn: list[Line2D] = []
    batches = sorted({row["batch_size"] for row in rows})
    for key in dict.fromkeys(row["contender"] for row in rows):
        line = sorted((r for r in rows if r["contender"] == key), key=lambda r: r["batch_size"])
        drawn += axes.plot(
            [row["batch_size"] for row in line],
            [MS / _of(row["slice_ms"])["median"] for row in line],
            color=_colour(key),
            marker=MARKERS[line[0]["precision"]],
            linestyle=LINES_OF.get(key, LINES[line[0]["precision"]]),
            markersize=4,
            linewidth=2.2 if key == BASELINE.key else 1.3,
            label=_label(line[0]),
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="slices in a batch", ylabel="slices a second (median)")
    axes.set_title(f"{rows[0]['size_px']} px", fontsize=10)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    return drawn


def _draw_speed_ups(axes: Axes, rows: Sequence[Row]) -> None:
    batches = {row["batch_size"] for row in rows}
    batch = SHOWN_BATCH if SHOWN_BATCH in batches else max(batches)
    shown = [row for row in rows if row["batch_size"] == batch]
    found = [_of(row["speed_up"]) for row in shown]
    medians = [one["median"] for one in found]
    below = [one["median"] - one["low"] for one in found]
    above = [one["high"] - one["median"] for one in found]
    axes.barh(
        range(len(shown)),
        medians,
        xerr=(below, above),
        color=[_colour(row["contender"]) for row in shown],
        error_kw={"ecolor": "0.2", "elinewidth": 1, "capsize": 2},
    )
    for place, (row, one) in enumerate(zip(shown, found, strict=True)):
        axes.annotate(
            f"{one['median']:.2f}x, {row['share_of_peak']:.0%} of peak",
            (one["high"], place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.axvline(1, color="0.2", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(shown)), [_label(row) for row in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35 * max(one["high"] for one in found))  # room for the text
    axes.set_xlabel(f"times as fast as {BASELINE.name}: median, lowest and highest round")
    axes.set_title(f"{rows[0]['size_px']} px, batch {batch}", fontsize=10)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)


def _of(value: Any) -> Mapping[str, float]:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _label(row: Row) -> str:
    return f"{row['name']} {row['precision']}"


def _colour(key: str) -> str:
    return COLOURS[key.partition("-")[0]]
