"""Reliability curves and confusion matrices as PNG files.

Drawn through matplotlib's objects, never through pyplot: no window, no state that a caller shares.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rsna_lumbar.runtime.core.labels import GRADE_TITLES
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
from rsna_lumbar.train.evaluation.diagnostics import (
    ALL,
    BINS,
    Diagnostics,
    GradeReport,
    GroupReport,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RELIABILITY, CONFUSION = "reliability.png", "confusion.png"
_DPI = 120
# Told apart without colour by their markers; the colours are safe for the colour-blind.
_COLOURS = ("#0072B2", "#E69F00", "#D55E00")
_MARKERS = ("o", "s", "^")
_WIDTH = 0.8 / BINS / len(GRADE_TITLES)  # of a bar: three share a bin and leave a fifth of it


def draw_figures(diagnostics: Diagnostics, folder: Path) -> tuple[Path, Path]:
    """Write ``reliability.png`` and ``confusion.png``, each replacing the old one at once.

    Args:
        diagnostics: of a submission.
        folder: made where it is not there.

    Raises:
        UsageError: matplotlib is not installed.
    """
    pictures = {RELIABILITY: reliability_figure, CONFUSION: confusion_figure}
    drawn = {name: _png(draw(diagnostics)) for name, draw in pictures.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in drawn.items():
        write_atomically(folder / name, content)
    return folder / RELIABILITY, folder / CONFUSION


def reliability_figure(diagnostics: Diagnostics) -> Figure:
    """A column per scored group: share against mean probability of each bin; the bins' counts."""
    figure = _figure(
        12.0, 6.4, "Reliability: how often a grade is so, by the probability it is given"
    )
    reports = _reports(diagnostics)
    axes = figure.subplots(
        2, len(reports), sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False
    )
    for column, (name, report) in enumerate(reports.items()):
        _draw_curves(axes[0, column], report)
        axes[0, column].set_title(f"{_title(name, report)}\n{_errors(report)}", fontsize=9)
        _draw_counts(axes[1, column], report)
    # Of all groups, as they share the axis; from below 1, so that a single row is a bar.
    axes[1, 0].set_ylim(0.7, 2 * max(report.rows for report in reports.values()) + 1)
    axes[0, 0].set_ylabel("share of rows that are of the grade")
    axes[1, 0].set_ylabel("rows per bin")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def confusion_figure(diagnostics: Diagnostics) -> Figure:
    """A matrix per scored group: counts; their share of the labelled grade, which is the colour."""
    figure = _figure(
        12.0,
        4.6,
        "Confusion: rows by labelled and likeliest grade, and their share of the labelled grade",
    )
    reports = _reports(diagnostics)
    axes = figure.subplots(1, len(reports), squeeze=False)[0]
    for place, (name, report) in zip(axes, reports.items(), strict=True):
        _draw_matrix(place, report)
        place.set_title(_title(name, report), fontsize=10)
    axes[0].set_ylabel("labelled grade", labelpad=12)
    return figure


def _reports(diagnostics: Diagnostics) -> dict[str, GroupReport]:
    """Of the scored groups, by name."""
    return {name: report for name, report in diagnostics.groups.items() if name != ALL}


def _draw_curves(axes: Axes, report: GroupReport) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
    for grade, label, colour, marker in _styled(report):
        filled = [found for found in grade.reliability if found.count]
        axes.plot(
            np.array([found.mean_probability for found in filled], np.float64),
            np.array([found.share for found in filled], np.float64),
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.3,
            label=label,
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(color="0.9")
    axes.set_axisbelow(True)


def _errors(report: GroupReport) -> str:
    """One per grade, in the order of the legend."""
    errors = [grade.calibration_error for grade in report.grades]
    return "calibration error " + " / ".join("-" if x is None else f"{x:.3f}" for x in errors)


def _draw_counts(axes: Axes, report: GroupReport) -> None:
    centres = (np.arange(BINS) + 0.5) / BINS
    for place, (grade, _, colour, _) in enumerate(_styled(report)):
        counts = [found.count for found in grade.reliability]
        axes.bar(centres + (place - 1) * _WIDTH, counts, width=_WIDTH, color=colour)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xlabel("probability of the grade")
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)


def _draw_matrix(axes: Axes, report: GroupReport) -> None:
    counts = np.array(report.confusion, np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column,
            row,
            f"{int(counts[row, column])}\n{share:.0%}" if totals[row] else "0",
            ha="center",
            va="center",
            color="white" if share > 0.6 else "black",
        )
    places = range(len(GRADE_TITLES))
    axes.set_xticks(places, GRADE_TITLES)
    axes.set_yticks(places, GRADE_TITLES, rotation=90, va="center")
    axes.set_xlabel("likeliest grade", labelpad=8)


def _title(name: str, report: GroupReport) -> str:
    return f"{name.title()}: {report.rows} rows"


def _styled(report: GroupReport) -> list[tuple[GradeReport, str, str, str]]:
    return list(zip(report.grades, GRADE_TITLES, _COLOURS, _MARKERS, strict=True))


def _figure(width: float, height: float, title: str) -> Figure:
    prepare_third_party("figures")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    margins = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    figure = Figure(figsize=(width, height), dpi=_DPI, layout=margins)
    figure.suptitle(title, fontsize=12)
    return figure


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png")
    return content.getvalue()
