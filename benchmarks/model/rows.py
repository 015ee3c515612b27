"""Rows of the part ``model``: what the samples of a block say of each contender.

speed-up          BASELINE's time over this one's, a slice, in the same round
over own export   the same with ultralytics' own export on the same runtime
rate              2 x multiply-adds of its network a slice / median time a slice
share of peak     rate / the highest rate of a matrix product in its precision
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rsna_lumbar.benchmarks.harness.report import Column
from rsna_lumbar.benchmarks.harness.timing import Summary, ratios, summary
from rsna_lumbar.benchmarks.model.arithmetic import OPERATIONS
from rsna_lumbar.benchmarks.model.contenders import BASELINE, Contender
from rsna_lumbar.benchmarks.model.measure import Block
from rsna_lumbar.benchmarks.model.peak import Peak

MS = 1e3


def _time(digits: int, name: str) -> Any:
    return lambda found: f"{getattr(found, name):.{digits}f}"


def _median_ratio(found: Summary) -> str:
    return f"{found.median:.2f}x"


def _range(found: Summary) -> str:
    return f"{found.low:.2f}-{found.high:.2f}"


COLUMNS = (
    Column("name", "", str, left=True),
    Column("precision", "precision", str, left=True),
    *(
        Column(key, heading, _time(digits, name))
        for key, unit, digits in (("slice_ms", "ms/slice", 2), ("series_ms", "ms/series", 0))
        for name, heading in (("median", unit), ("p95", "p95"), ("p99", "p99"))
    ),
    Column("speed_up", "speed-up", _median_ratio),
    Column("speed_up", "(range)", _range),
    Column("over_own_export", "over own", _median_ratio),
    Column("over_own_export", "(range)", _range),
    Column("gops", "GOP/s", lambda value: f"{value:.0f}"),
    Column("share_of_peak", "of peak", lambda value: f"{value:.0%}"),
    Column("largest_difference", "max diff", lambda value: f"{value:.1e}"),
)
NOTES = (
    f"speed-up: {BASELINE.name}'s time over this one's in the same round, per slice: median, "
    "lowest and highest round",
    "over own: the same, over ultralytics' own export on the same runtime (of bf16 its bf16, of "
    "int8 its fp32)",
    "GOP/s: operations of the convolutions, a multiply-add being two; of peak: share of the "
    "highest rate of a matrix product seen in that precision, below",
    f"max diff: largest difference of a probability of the series from {BASELINE.name}",
)


def highest_peaks(found: Iterable[Peak], blocks: Iterable[Block]) -> dict[str, Peak]:
    """The highest of each precision, of those found before and those seen in the rounds."""
    seen = [
        Peak(product, product.gops(float(samples.min())))
        for block in blocks
        for product, samples in block.product_s.items()
    ]
    highest: dict[str, Peak] = {}
    for one in (*found, *seen):
        known = highest.setdefault(one.product.precision, one)
        highest[one.product.precision] = max(known, one, key=lambda peak: peak.gops)
    return highest


def block_title(block: Block) -> str:
    """Size, batch, rounds and arithmetic."""
    work = block.work
    whole, scored = (OPERATIONS * one.multiply_adds / 1e9 for one in (work.whole, work.scored))
    return (
        f"{work.size_px} px, batch {work.batch_size}, {block.rounds} rounds; "
        f"{whole:.2f} GOP a slice, score graph {scored:.2f}"
    )


def block_rows(block: Block, peaks: Mapping[str, Peak]) -> tuple[Mapping[str, Any], ...]:
    """A row for each contender that could be timed, in their order."""
    by_key = {one.key: one for one in block.batch_s}
    return tuple(_row(one, block, by_key.get(one.peer), peaks) for one in block.batch_s)


def _row(
    one: Contender, block: Block, peer: Contender | None, peaks: Mapping[str, Peak]
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
