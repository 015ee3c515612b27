"""``results.csv`` of a training -> a picture of its losses, metrics and learning rate."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rsna_lumbar.runtime.system.atomic_files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of axes: its title, and the columns drawn in it by their label."""

    title: str
    columns: Mapping[str, str]
    top: float | None = None  # of the value axis; its foot is then 0


def _loss(name: str, title: str) -> Panel:
    return Panel(title, {"training": f"train/{name}", "validation": f"val/{name}"})


PANELS = (
    _loss("cls_loss", "Class loss"),
    _loss("box_loss", "Box loss"),
    _loss("dfl_loss", "Box border loss (DFL)"),
    Panel(
        "Mean average precision",
        {"IoU 0.5": "metrics/mAP50(B)", "IoU 0.5 to 0.95": "metrics/mAP50-95(B)"},
        top=1.0,
    ),
    Panel(
        "At the best F1",
        {"precision": "metrics/precision(B)", "recall": "metrics/recall(B)"},
        top=1.0,
    ),
    Panel("Learning rate", {"all parameters": "lr/pg0"}),
)
LINES = (("#1f5fa8", "-"), ("#d9661f", "--"))  # of a panel's first and second column


def draw_curves(results: Path, target: Path, *, title: str) -> None:
    """Draw a PNG, in one step.

    Args:
        results: the table that ultralytics writes, a row per epoch.
        target: the picture; one that is there is replaced.
        title: stands above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = _read(results)
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = table["epoch"]
    figure.suptitle(f"{title}: {len(epochs)} epochs")
    for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        _draw(axes, panel, table)
    with atomic_file(target) as stream:
        figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})


def _read(results: Path) -> dict[str, Sequence[float]]:
    """Columns by name; ultralytics pads the names with blanks in some versions."""
    with results.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, skipinitialspace=True))
    names = rows[0] if rows else {}
    return {name.strip(): [float(row[name]) for row in rows] for name in names}


def _draw(axes: Axes, panel: Panel, table: Mapping[str, Sequence[float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = table["epoch"]
    # A single epoch is a point: a line through it would not be seen.
    marker = "o" if len(epochs) < 2 else ""
    for (label, column), (colour, style) in zip(panel.columns.items(), LINES, strict=False):
        if column in table:
            axes.plot(
                epochs,
                table[column],
                style,
                color=colour,
                label=label,
                marker=marker,
                linewidth=1.6,
            )
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel("epoch", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, panel.top)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
