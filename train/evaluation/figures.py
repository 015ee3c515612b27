"""Reliability curves and confusion matrices as PNG files.

Drawn with matplotlib's objects, never with pyplot: no window, no state shared with the caller.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rsna_lumbar.runtime.core.labels import GRADE_TITLES
from rsna_lumbar.runtime.system.atomic_files import atomic_file
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
from rsna_lumbar.train.evaluation.diagnostics import ALL, BINS, Diagnostics, GroupReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RELIABILITY, CONFUSION = "reliability.png", "confusion.png"
# Colour and marker by grade: colours for the colour-blind, markers for print without colour.
_STYLES = (("#0072B2", "o"), ("#E69F00", "s"), ("#D55E00", "^"))
_WIDTH = 0.8 / BINS / len(GRADE_TITLES)  # of a bar: three per bin, and a fifth of the bin is free


def draw_figures(diagnostics: Diagnostics, folder: Path) -> tuple[Path, Path]:
    """Write ``reliability.png`` and ``confusion.png``; old ones are replaced atomically.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figures = {
        folder / RELIABILITY: reliability_figure(diagnostics),
        folder / CONFUSION: confusion_figure(diagnostics),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for path, figure in figures.items():
        with atomic_file(path) as stream:
            figure.savefig(stream, format="png")
    return folder / RELIABILITY, folder / CONFUSION


def reliability_figure(diagnostics: Diagnostics) -> Figure:
    """A column per scored group: share against mean probability of each bin; the bins' counts."""
    title = "Reliability: how often rows are of a grade, by the probability of the grade"
    figure, reports = _figure(6.4, title), _reports(diagnostics)
    axes = figure.subplots(
        2, len(reports), sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False
    )
    for curves, bars, (name, report) in zip(*axes, reports.items(), strict=True):
        errors = [grade.calibration_error for grade in report.grades]
        shown = " / ".join("-" if x is None else f"{x:.3f}" for x in errors)
        curves.set_title(f"{_title(name, report)}\ncalibration error {shown}", fontsize=9)
        _draw_reliability(curves, bars, report)
    # One range for all groups, as they share the axis; from below 1, so that one row is visible.
    axes[1, 0].set_ylim(0.7, 2 * max(report.rows for report in reports.values()) + 1)
    axes[0, 0].set_ylabel("share of rows that are of the grade")
    axes[1, 0].set_ylabel("rows per bin")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def confusion_figure(diagnostics: Diagnostics) -> Figure:
    """A matrix per scored group: counts; the colour is their share of the labelled grade."""
    title = "Confusion: rows by labelled and likeliest grade, and their share of the labelled grade"
    figure, reports = _figure(4.6, title), _reports(diagnostics)
    axes = figure.subplots(1, len(reports), squeeze=False)[0]
    for place, (name, report) in zip(axes, reports.items(), strict=True):
        _draw_matrix(place, report)
        place.set_title(_title(name, report), fontsize=10)
    axes[0].set_ylabel("labelled grade", labelpad=12)
    return figure


def _reports(diagnostics: Diagnostics) -> dict[str, GroupReport]:
    """The reports of the scored groups, by name."""
    return {name: report for name, report in diagnostics.groups.items() if name != ALL}


def _draw_reliability(curves: Axes, bars: Axes, report: GroupReport) -> None:
    curves.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
    centres = (np.arange(BINS) + 0.5) / BINS
    for place, (grade, title) in enumerate(zip(report.grades, GRADE_TITLES, strict=True)):
        colour, marker = _STYLES[place]
        filled = [found for found in grade.reliability if found.count]
        curves.plot(
            np.array([found.mean_probability for found in filled], np.float64),
            np.array([found.share for found in filled], np.float64),
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.3,
            label=title,
        )
        counts = [found.count for found in grade.reliability]
        bars.bar(centres + (place - 1) * _WIDTH, counts, width=_WIDTH, color=colour)
    curves.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    curves.grid(color="0.9")
    bars.set_yscale("log")
    bars.minorticks_off()
    bars.set_xlabel("probability of the grade")
    bars.grid(axis="y", color="0.9")
    for axes in (curves, bars):
        axes.set_axisbelow(True)


def _draw_matrix(axes: Axes, report: GroupReport) -> None:
    counts = np.array(report.confusion, np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{int(counts[row, column])}\n{share:.0%}" if totals[row] else "0"
        colour = "white" if share > 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    places = range(len(GRADE_TITLES))
    axes.set_xticks(places, GRADE_TITLES)
    axes.set_yticks(places, GRADE_TITLES, rotation=90, va="center")
    axes.set_xlabel("likeliest grade", labelpad=8)


def _title(name: str, report: GroupReport) -> str:
    return f"{name.title()}: {report.rows} rows"


def _figure(height: float, title: str) -> Figure:
    prepare_third_party("figures")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    margins = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    figure = Figure(figsize=(12.0, height), dpi=120, layout=margins)
    figure.suptitle(title, fontsize=12)
    return figure
