"""The plotter of all benchmarks: rows of panels with bars or lines, as a PNG file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from rsna_lumbar.benchmarks.harness.report import Results
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.atomic_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
# Inches: width of a panel; heights of lines, of a bar, of the room around bars, of the legend.
WIDTH, LINES, BAR, AROUND, LEGEND = 6.8, 4.4, 0.3, 1.3, 0.7
CHARACTERS_AN_INCH = 17  # of the footer
NAME_CHARACTERS = 36  # in a line
GROUP = 0.8  # height of the bars of a name, of the distance between names
ROOM = 1.35  # width of a panel over its longest bar: text stands beside it
DASHES = ("-", "--", "-.", ":")  # of lines that share a colour
MARK = "#D55E00"


class Piece(NamedTuple):
    """A part of a bar."""

    length: float
    colour: str
    label: str = ""  # in the legend


class Bar(NamedTuple):
    """Pieces end to end; bars of the same name stand side by side."""

    name: str
    pieces: tuple[Piece, ...]
    text: str  # beside it
    interval: tuple[float, float] | tuple[()] = ()
    mark: float | None = None  # drawn across the bar

    @property
    def end(self) -> float:
        return max(sum(one.length for one in self.pieces), *self.interval, 0.0)


class Line(NamedTuple):
    """Points (x, y) joined by a line."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    marker: str
    width: float = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Horizontal bars, the first on top; or lines, on logarithmic axes with ticks at the points."""

    xlabel: str
    ylabel: str = ""
    title: str = ""
    bars: Sequence[Bar] = ()
    lines: Sequence[Line] = ()
    mark: float | None = None  # drawn across all bars
    mark_label: str = ""  # in the legend, of all marks

    @property
    def height(self) -> float:
        return LINES if self.lines else AROUND + BAR * len(self.bars)


def draw(results: Results, title: str, rows: Sequence[Sequence[Panel]], path: Path) -> None:
    """Write rows of panels, with one legend, and machine, versions and command below.

    Raises:
        UsageError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    content = BytesIO()
    _figure(results, title, rows).savefig(content, format="png")
    write_atomically(path, content.getvalue())


def _figure(results: Results, title: str, rows: Sequence[Sequence[Panel]]) -> Figure:
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise UsageError("matplotlib is not installed: pip install 'rsna-lumbar[bench]'") from error
    columns = max(map(len, rows))
    heights = [*(max(panel.height for panel in row) for row in rows), LEGEND]
    size = WIDTH * max(1.3, columns), AROUND + sum(heights)
    margins = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    figure = Figure(figsize=size, dpi=DPI, layout=margins)
    figure.suptitle(title, fontsize=12)
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    labels: dict[str, Artist] = {}
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            axes = figure.add_subplot(grid[i, j])
            _draw_lines(axes, panel) if panel.lines else _draw_bars(axes, panel)
            axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel, axisbelow=True)
            axes.set_title(panel.title, fontsize=10)
            labels.update(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    below = figure.add_subplot(grid[-1, :])
    below.set_axis_off()
    below.legend(labels.values(), list(labels), loc="center", ncols=4, frameon=False, fontsize=8)
    figure.supxlabel(_footer(results, size[0]), fontsize=6.5, color="0.35", x=0.01, ha="left")
    return figure


def _draw_bars(axes: Axes, panel: Panel) -> None:
    places = {name: i for i, name in enumerate(dict.fromkeys(bar.name for bar in panel.bars))}
    count, drawn = Counter(bar.name for bar in panel.bars), Counter[str]()
    for bar in panel.bars:
        thickness = GROUP / count[bar.name]
        y = places[bar.name] - GROUP / 2 + thickness * (drawn[bar.name] + 0.5)
        drawn[bar.name] += 1
        start = 0.0
        for one in bar.pieces:
            axes.barh(y, one.length, 0.9 * thickness, left=start, color=one.colour, label=one.label)
            start += one.length
        axes.plot(bar.interval, [y] * len(bar.interval), color="black", linewidth=1)
        if bar.mark is not None:
            axes.plot(bar.mark, y, "|", color=MARK, ms=14, mew=2.2, label=panel.mark_label)
        axes.annotate(f"  {bar.text}", (bar.end, y), va="center", fontsize=8)
    if panel.mark is not None:
        axes.axvline(panel.mark, color=MARK, linestyle="--", label=panel.mark_label)
    names = [fill(name, NAME_CHARACTERS, break_on_hyphens=False) for name in places]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, ROOM * max(bar.end for bar in panel.bars))
    axes.grid(axis="x", color="0.9")


def _draw_lines(axes: Axes, panel: Panel) -> None:
    drawn = Counter[str]()
    for line in panel.lines:
        dash = DASHES[drawn[line.colour] % len(DASHES)]
        drawn[line.colour] += 1
        axes.plot(
            *zip(*line.points, strict=True),
            color=line.colour,
            marker=line.marker,
            linestyle=dash,
            linewidth=line.width,
            label=line.label,
        )
    ticks = sorted({x for line in panel.lines for x, _ in line.points})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(color="0.9")


def _footer(results: Results, width: float) -> str:
    """Machine, threads, the batch size if it is one for all, versions, command."""
    said = results.conditions
    batch = f", batch {said['batch size']}" if said.get("batch size") else ""
    machine = f"{said['machine']}, {said['threads']} threads{batch}"
    lines = (machine, str(said["versions"]), results.command)
    columns = int(CHARACTERS_AN_INCH * width)
    return "\n".join(fill(line, columns, break_on_hyphens=False) for line in lines)
