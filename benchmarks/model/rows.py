"""The rows of ``rsna-bench model``: the statistics of each contender in a block.

speed-up          BASELINE's time over this one's, per slice, in the same round
over own export   the same with ultralytics' own export on the same runtime
rate              2 x multiply-adds of its network per slice / median time per slice
share of peak     rate / the highest rate of a matrix product in its precision
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rsna_lumbar.benchmarks.harness.report import Column
from rsna_lumbar.benchmarks.harness.timing import ratios, summary
from rsna_lumbar.benchmarks.model.arithmetic import OPERATIONS
from rsna_lumbar.benchmarks.model.contenders import BASELINE, Contender
from rsna_lumbar.benchmarks.model.measure import TimedBlock
from rsna_lumbar.benchmarks.model.peak import Peak

MS = 1e3


RATIO, RANGE = "{.median:.2f}x", "{0.low:.2f}-{0.high:.2f}"
COLUMNS = (
    Column("name", "", left=True),
    Column("precision", "precision", left=True),
    Column("slice_ms", "ms/slice", "{.median:.2f}"),
    Column("slice_ms", "p95", "{.p95:.2f}"),
    Column("slice_ms", "p99", "{.p99:.2f}"),
    Column("series_ms", "ms/series", "{.median:.0f}"),
    Column("series_ms", "p95", "{.p95:.0f}"),
    Column("series_ms", "p99", "{.p99:.0f}"),
    Column("speed_up", "speed-up", RATIO),
    Column("speed_up", "(range)", RANGE),
    Column("over_own_export", "over own", RATIO),
    Column("over_own_export", "(range)", RANGE),
    Column("gops", "GOP/s", "{:.0f}"),
    Column("share_of_peak", "of peak", "{:.0%}"),
    Column("largest_difference", "max diff", "{:.1e}"),
)
NOTES = (
    f"speed-up: {BASELINE.name}'s time over this one's in the same round, per slice: median, "
    "lowest and highest round",
    "over own: the same, over ultralytics' own export on the same runtime (bf16 over its bf16, "
    "int8 over its fp32)",
    "GOP/s: operations of the convolutions, two per multiply-add; of peak: share of the highest "
    "rate of a matrix product in that precision, below",
    f"max diff: largest difference of a probability of the series from {BASELINE.name}",
)


def highest_peaks(found: Iterable[Peak], blocks: Iterable[TimedBlock]) -> dict[str, Peak]:
    """The highest of each precision: of those found before, and of those in the rounds."""
    seen = [
        Peak(product, product.gops(float(samples.min())))
        for block in blocks
        for product, samples in block.product_s.items()
    ]
    highest: dict[str, Peak] = {}
    for one in sorted((*found, *seen), key=lambda peak: peak.gops):
        highest[one.product.precision] = one
    return highest


def block_title(block: TimedBlock) -> str:
    """Size, batch, rounds and arithmetic."""
    work = block.work
    whole, scored = (OPERATIONS * one.multiply_adds / 1e9 for one in (work.whole, work.scored))
    return (
        f"{work.size_px} px, batch {work.batch_size}, {block.rounds} rounds; "
        f"{whole:.2f} GOP per slice, score graph {scored:.2f}"
    )


def block_rows(block: TimedBlock, peaks: Mapping[str, Peak]) -> tuple[Mapping[str, Any], ...]:
    """A row for each contender that was timed, in their order."""
    by_key = {one.key: one for one in block.batch_s}
    return tuple(_row(one, block, by_key.get(one.peer), peaks) for one in block.batch_s)


def _row(
    one: Contender, block: TimedBlock, peer: Contender | None, peaks: Mapping[str, Peak]
) -> Mapping[str, Any]:
    work, times = block.work, block.batch_s
    slice_ms = summary(MS * times[one] / work.batch_size)
    arithmetic = work.whole if one.whole else work.scored
    gops = OPERATIONS * arithmetic.multiply_adds / slice_ms.median * MS / 1e9
    peak = peaks[one.precision].gops
    return {
        "contender": one.key,
        "name": one.name,
        "precision": one.precision,
        "size_px": work.size_px,
        "batch_size": work.batch_size,
        "rounds": block.rounds,
        "slice_ms": slice_ms,
        "series_ms": summary(MS * block.series_s[one]),
        "speed_up": ratios(times[BASELINE], times[one]),
        "over_own_export": None if peer is None else ratios(times[peer], times[one]),
        "multiply_adds": arithmetic.multiply_adds,
        "gops": gops,
        "peak_gops": peak,
        "share_of_peak": gops / peak,
        "largest_difference": block.differences[one],
    }
