"""``results.csv`` of a training -> a picture of its losses, metrics and learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rsna_lumbar.runtime.system.atomic_files import atomic_file


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of axes: its title, and its columns by label."""

    title: str
    columns: Mapping[str, str]
    top: float | None = None  # of the value axis, which starts at 0


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
    """Draw the table that ultralytics writes, a row per epoch; replace the PNG atomically."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # Some versions of ultralytics pad the names with blanks.
    table = pd.read_csv(results, skipinitialspace=True).rename(columns=str.strip)
    figure = Figure(figsize=(11, 6), layout="constrained")
    figure.suptitle(f"{title}: {len(table)} epochs")
    marker = "o" if len(table) < 2 else ""  # a line through a single point is invisible
    for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        for (label, column), (colour, style) in zip(panel.columns.items(), LINES, strict=False):
            if column in table:
                axes.plot(table["epoch"].to_numpy(), table[column].to_numpy(), style, color=colour,
                          label=label, marker=marker, linewidth=1.6)  # fmt: skip
        axes.set_title(panel.title, fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(0, panel.top)
        axes.tick_params(labelsize=8)
        axes.grid(color="#e3e3e3", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    with atomic_file(target) as stream:
        figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
