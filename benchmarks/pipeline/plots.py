"""The plots of ``rsna-bench pipeline`` and ``rsna-bench start``: seconds, and what takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rsna_lumbar.benchmarks.harness.fresh_runs import METHOD
from rsna_lumbar.benchmarks.harness.plot import Bar, Panel, Piece, draw
from rsna_lumbar.benchmarks.harness.report import Results, RowValues
from rsna_lumbar.benchmarks.pipeline.report import IN_ITS_RUN, studies
from rsna_lumbar.benchmarks.pipeline.start_report import MOST_OVERHEAD_S

# From light to dark by the number of studies: ours, and the method.
COLOURS = ("#9ECAE1", "#3182BD", "#08519C")
GREYS = ("#CFCFCF", "#8C8C8C", "#5A5A5A")
# Walking and writing are too short to be seen.
STAGES = {
    "decode_s": ("#E69F00", "decode"),
    "preprocess_s": ("#F0E442", "preprocess"),
    "infer_s": ("#0072B2", "infer"),
}
START, INFERENCE = "#3182BD", "#BDBDBD"


def draw_pipeline(results: Results, path: Path) -> None:
    """Write a PNG file: fresh processes on the left, stages on the right if they were timed.

    Raises:
        UsageError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    count = int(results.conditions["stage studies"])
    stages = {
        row["contender"].removesuffix(IN_ITS_RUN): row for row in results.rows_with("infer_s")
    }
    panels = [
        Panel(
            xlabel="seconds per study, each run a fresh process (line: range of the rounds)",
            bars=[*_run_bars(results)],
            mark_label=f"limit: the larger of decode only and infer only, {studies(count)}",
        )
    ]
    if stages:
        bars = [_stage_bar(name, row, count) for name, row in stages.items()]
        panels += [Panel(xlabel="seconds per study, models loaded, each stage alone", bars=bars)]
    draw(results, f"DICOM to submission: {results.conditions['model']}", [panels], path)


def _run_bars(results: Results) -> Iterator[Bar]:
    rows = results.rows_with("s_per_study")
    shade = {number: i for i, number in enumerate(sorted({row["studies"] for row in rows}))}
    for row in rows:
        name, number, seconds = row["contender"], row["studies"], row["s_per_study"]
        if name == METHOD:
            piece = Piece(seconds, GREYS[shade[number] % len(GREYS)])
        else:
            piece = Piece(seconds, COLOURS[shade[number] % len(COLOURS)], studies(number))
        speed_up = "" if row["ratio"] is None else f", {row['ratio'].median:.1f}x"
        interval = (row["wall_s"].low / number, row["wall_s"].high / number)
        limit = seconds / row["of_limit"] if row["of_limit"] else None
        yield Bar(name, (piece,), f"{seconds:.2f} s{speed_up}", interval, limit)


def _stage_bar(name: str, row: RowValues, count: int) -> Bar:
    pieces = tuple(
        Piece(row[key].median / count, colour, label)
        for key, (colour, label) in STAGES.items()
        if row.get(key) is not None
    )
    return Bar(name, pieces, f"{sum(one.length for one in pieces):.2f} s")


def draw_start(results: Results, path: Path) -> None:
    """Write a PNG file: bare starts on the left, one study on the right; errors as above."""
    bare, study = ([_start_bar(row) for row in block.rows] for block in results.blocks)
    panels = [
        Panel(xlabel="wall seconds of a fresh process (line: range of the rounds)", bars=bare),
        Panel(
            xlabel="wall seconds of one study in a fresh process",
            bars=study,
            mark=MOST_OVERHEAD_S,
            mark_label=f"aim: {MOST_OVERHEAD_S} s beside inference",
        ),
    ]
    draw(results, f"Start: {results.conditions['model']}", [panels], path)


def _start_bar(row: RowValues) -> Bar:
    name, wall = row["contender"].removeprefix("one study, "), row["wall_s"]
    pieces: tuple[Piece, ...] = (Piece(wall.median, START),)
    text = f"{wall.median:.2f} s"
    if row.get("overhead_s") is not None:
        overhead, inference = row["overhead_s"].median, row["inference_s"].median
        pieces = (
            Piece(overhead, START, "all but inference"),
            Piece(inference, INFERENCE, "inference"),
        )
        text = f"{overhead:.2f} s + {inference:.2f} s"
    return Bar(name, pieces, text, (wall.low, wall.high))
