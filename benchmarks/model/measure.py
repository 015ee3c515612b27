"""Times all contenders at one size and batch in turns, and matrix products with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from rsna_lumbar.benchmarks.harness.timing import Samples, interleaved, rounds_within, warm_up
from rsna_lumbar.benchmarks.model.arithmetic import FLOAT_BYTES
from rsna_lumbar.benchmarks.model.contenders import BASELINE, Contender
from rsna_lumbar.benchmarks.model.peak import Product
from rsna_lumbar.benchmarks.model.work import Peaks, ScoreSeries, Slices, Work
from rsna_lumbar.runtime.core.errors import BackendError, UsageError
from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities

Timed = tuple[Contender | Product, str]  # and "batch", "series" or "product 0", ...
PRODUCT_CALLS = 4  # per round: they are short, and the highest rate counts
# Memory of a contender, in outputs of the largest convolution. Resident memory that each added,
# YOLOv8n, 384 px, batch 64: 0 to 1.2 PyTorch (3.5 while it runs), 0.4 to 2.8 ONNX Runtime, 1.7 to
# 4.5 OpenVINO.
KEPT_OUTPUTS = 3
SHARE_OF_MEMORY = 0.8  # of what is available
# A small batch is repeated to so many slices: alone it would mostly fill cold caches.
LEAST_SLICES = 16


@dataclass(frozen=True, slots=True)
class TimedBlock:
    """The measurements at one size and batch; times in seconds, one per round."""

    work: Work
    batch_s: Mapping[Contender, Samples]  # of one batch, small ones the mean of several
    series_s: Mapping[Contender, Samples]  # of one series, batch by batch
    product_s: Mapping[Product, Samples]  # of one call, several per round
    differences: Mapping[Contender, float]  # largest of a probability of the series, from BASELINE
    missing: Mapping[Contender, str]  # not available here, and why

    @property
    def rounds(self) -> int:
        return len(self.batch_s[BASELINE])


def time_block(
    work: Work,
    slices: Slices,
    *,
    contenders: Sequence[Contender],
    products: Sequence[Product],
    rounds: int,
    within_s: float,
    progress: Callable[[int], object] = lambda _: None,
) -> TimedBlock:
    """Time contenders on one batch and on one series.

    Args:
        work: checkpoint, size and batch.
        slices: (n, S, S) uint8, n at least a batch and a series.
        contenders: BASELINE among them. If the library, device or precision of one is not
            available here, it is missing, with the reason.
        products: timed in the same rounds.
        rounds: times of each, after a warm-up.
        within_s: if the rounds would take longer, there are fewer.
        progress: called with 1 after every round.
    """
    batch, series = slices[: work.batch_size], slices[: work.series_slices]
    repeats = -(-LEAST_SLICES // work.batch_size)
    with ExitStack() as stack:
        opened, missing = _open(contenders, work, stack)
        answers = {one: score(series) for one, score in opened.items()}
        calls: dict[Timed, Callable[[], object]] = {}
        for one, score in opened.items():
            calls[one, "batch"] = partial(repeatedly, score, batch, repeats)
            calls[one, "series"] = partial(score, series)
        places = [f"product {place}" for place in range(PRODUCT_CALLS)]
        calls.update({(one, place): one.call for one in products for place in places})
        rounds = rounds_within(within_s, warm_up(calls.values()), wanted=rounds)
        found = interleaved(calls, rounds=rounds, progress=progress)
    return TimedBlock(
        work=work,
        batch_s={one: found[one, "batch"] / repeats for one in opened},
        series_s={one: found[one, "series"] for one in opened},
        product_s={
            one: np.concatenate([found[one, place] for place in places]) for one in products
        },
        differences={one: largest_difference(answers[one], answers[BASELINE]) for one in opened},
        missing=missing,
    )


def memory_needed(work: Work, contenders: int) -> int:
    """Bytes of the activations of so many contenders, all open together; a rough estimate."""
    outputs = KEPT_OUTPUTS * work.whole.largest_output * FLOAT_BYTES
    return contenders * work.batch_size * outputs


def repeatedly(score: ScoreSeries, batch: Slices, repeats: int) -> None:
    """Score the same batch several times."""
    for _ in range(repeats):
        score(batch)


def largest_difference(peaks: Peaks, baseline: Peaks) -> float:
    """Of a probability, without calibration."""
    ours, theirs = (probabilities(one, Calibration()) for one in (peaks, baseline))
    return float(np.abs(ours - theirs).max())


def _open(
    contenders: Sequence[Contender], work: Work, stack: ExitStack
) -> tuple[dict[Contender, ScoreSeries], dict[Contender, str]]:
    opened: dict[Contender, ScoreSeries] = {}
    missing: dict[Contender, str] = {}
    for one in contenders:
        try:
            opened[one] = stack.enter_context(one.open(work))
        except (UsageError, BackendError) as error:
            missing[one] = str(error)
    return opened, missing
