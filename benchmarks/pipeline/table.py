"""The tables of ``rsna-bench pipeline``: each kind of block under headings of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rsna_lumbar.benchmarks.harness.report import Column, Results, as_table
from rsna_lumbar.benchmarks.harness.timing import Summary


def _two(value: float) -> str:
    return f"{value:.2f}"


def _median(value: Summary) -> str:
    return f"{value.median:.2f}"


def _range(value: Summary) -> str:
    return f"{value.median:.2f} ({value.low:.2f}-{value.high:.2f})"


def _times(value: Summary) -> str:
    return f"{value.median:.2f}x ({value.low:.2f}-{value.high:.2f})"


RUN_COLUMNS = (
    Column("contender", "fresh process", str, left=True),
    Column("wall_s", "wall s (range)", _range),
    Column("wall_s", "p95", lambda value: f"{value.p95:.2f}"),
    Column("wall_s", "p99", lambda value: f"{value.p99:.2f}"),
    Column("s_per_study", "s/study", _two),
    Column("ratio", "speed-up (range)", _times),
    Column("first_row_s", "first row s", _two),
    Column("cpu_s", "CPU s", lambda value: f"{value:.1f}"),
    Column("peak_mb", "peak MB", lambda value: "-" if value is None else f"{value:.0f}"),
    Column("of_limit", "of limit", _two),
)
STAGE_COLUMNS = (
    Column("contender", "seconds", str, left=True),
    Column("walk_s", "walk", lambda value: f"{value.median:.3f}"),
    Column("decode_s", "decode", _median),
    Column("preprocess_s", "preprocess", _median),
    Column("infer_s", "infer", _median),
    Column("write_s", "write", lambda value: f"{value.median:.3f}"),
    Column("decode_only_s", "decode only", _median),
    Column("infer_only_s", "infer only", _median),
    Column("whole_s", "whole", _median),
    Column("share_of_limit", "of limit (range)", _range),
    Column("infer_ms_per_slice", "infer ms/slice", _two),
)
AGREEMENT_COLUMNS = (
    Column("contender", "rows", str, left=True),
    Column("largest_difference", "max diff", lambda value: f"{value:.1e}"),
    Column("mean_difference", "mean diff", lambda value: f"{value:.1e}"),
    Column("changed_rows", "other grade", str),
    Column("rows", "of", str),
)
STRESS_COLUMNS = (
    Column("contender", "longer over shorter", str, left=True),
    Column("time_ratio", "time", lambda value: f"{value:.2f}x"),
    Column("most_time", "at most", lambda value: f"{value:.2f}x"),
    Column("memory_ratio", "peak memory", lambda value: f"{value:.2f}x"),
    Column("most_memory", "at most", lambda value: f"{value:.2f}x"),
    Column("met", "", lambda value: "met" if value else "missed"),
)


def pipeline_table(results: Results) -> str:
    """For a person: each kind of block under headings of its own."""
    kinds = (RUN_COLUMNS, STAGE_COLUMNS, AGREEMENT_COLUMNS, STRESS_COLUMNS)
    parts = []
    for columns in kinds:
        blocks = tuple(
            (title, rows) for title, rows in results.blocks if rows and _own_key(columns) in rows[0]
        )
        if blocks:
            part = replace(results, columns=columns, blocks=blocks, notes=(), conditions={})
            parts.append(as_table(part).removeprefix(f"$ {results.command}").strip("\n"))
    rest = as_table(replace(results, blocks=())).removeprefix(f"$ {results.command}").strip("\n")
    return "\n\n".join((f"$ {results.command}", *parts, rest))


def _own_key(columns: Sequence[Column]) -> str:
    """A key that only rows of this kind have."""
    return columns[1].key
