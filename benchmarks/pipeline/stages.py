"""Times each stage of the pipeline alone, in one process, on the same studies.

    walk -> decode -> preprocess -> infer -> write          each stage, nothing beside it
    decode only = decoding and preprocessing as the pipeline does it, without a model
    infer only  = scoring of sets that were decoded before
    whole       = both at the same time

The pipeline cannot be faster than the slower of decode only and infer only.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.harness.timing import Summary, interleaved, summary
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.decode.factory import default_workers
from rsna_lumbar.runtime.decode.slice_sets import SliceSet
from rsna_lumbar.runtime.dicom.slices import read_frames
from rsna_lumbar.runtime.inference.batches import fill_batches
from rsna_lumbar.runtime.inference.viewed_sets import plainly
from rsna_lumbar.runtime.run.submission import submission_header, submission_lines
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.runtime.studies.study import Inventory
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.cores import usable_cores


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds for all studies, over the rounds."""

    walk_s: Summary
    decode_s: Summary  # one core
    preprocess_s: Summary  # one core
    infer_s: Summary  # full batches through the sessions
    write_s: Summary
    decode_only_s: Summary  # with the fastest number of processes
    decode_only_workers: int
    infer_only_s: Summary
    whole_s: Summary
    share_of_limit: Summary  # whole over the larger of decode only and infer only, by round
    infer_ms_per_slice: float
    batch_size: int

    @property
    def limit_s(self) -> float:
        """Median that the pipeline cannot go below."""
        return max(self.decode_only_s.median, self.infer_only_s.median)


def time_stages(
    bundle: Path,
    data: Path,
    variant: Variant,
    *,
    rounds: int,
    threads: int,
    workers: int | None,
    scratch: Path,
) -> Stages:
    """Time every stage of one variant, after everything was decoded and scored once.

    Args:
        bundle: folder.
        data: root of studies.
        variant: all slices are read.
        rounds: times of each stage.
        threads: of the runtime.
        workers: decoding processes of the whole; None: as ``rsna-run``.
        scratch: file to write rows to.
    """
    found = find_studies(data)
    if workers is None:
        workers = default_workers(found.file_count)
    with variant.scorer(bundle, threads) as scorer:
        sets = list(scorer.decoded(found))  # warms up, as does the next line
        scores = list(scorer.scored(found, sets))
        batches = list(_batches(scorer, sets))
        counts = sorted({0, workers, usable_cores()})
        parts: list[tuple[float, float]] = []  # seconds of decoding and of preprocessing
        contenders: dict[str, Callable[[], object]] = {
            "walk": partial(find_studies, data),
            "slices": lambda: parts.append(_decode_here(scorer, found)),
            "infer": partial(_infer, scorer, batches),
            "write": lambda: write_atomically(
                scratch, submission_header() + "".join(map(submission_lines, scores))
            ),
            "infer only": lambda: _exhaust(scorer.scored(found, sets)),
            "whole": lambda: _exhaust(scorer.score(found, workers=workers)),
            **{f"decode {n}": partial(_decode_only, scorer, found, n) for n in counts},
        }
        seconds = interleaved(contenders, rounds=rounds)
        slices = sum(len(images) for _, images, _ in batches)
        batch_size = scorer.batch_size
    fastest = min(counts, key=lambda n: float(np.median(seconds[f"decode {n}"])))
    decode_only = seconds[f"decode {fastest}"]
    decode_s, preprocess_s = np.array(parts).T
    return Stages(
        walk_s=summary(seconds["walk"]),
        decode_s=summary(decode_s),
        preprocess_s=summary(preprocess_s),
        infer_s=summary(seconds["infer"]),
        write_s=summary(seconds["write"]),
        decode_only_s=summary(decode_only),
        decode_only_workers=fastest,
        infer_only_s=summary(seconds["infer only"]),
        whole_s=summary(seconds["whole"]),
        share_of_limit=summary(seconds["whole"] / np.maximum(decode_only, seconds["infer only"])),
        infer_ms_per_slice=1e3 * float(np.median(seconds["infer"])) / slices,
        batch_size=batch_size,
    )


Work = tuple[str, NDArray[np.uint8], NDArray[np.bool_]]  # group, slices (N, S, S), member (G, N)


def _batches(scorer: Scorer, sets: list[SliceSet]) -> Iterator[Work]:
    for detector in scorer.bundle.detectors:
        of_group = [plainly(one) for one in sets if one.request.group is detector.group]
        for batch in fill_batches(of_group, scorer.batch_size):
            yield detector.group.name, batch.slices, batch.member


def _infer(scorer: Scorer, batches: list[Work]) -> None:
    for group, slices, member in batches:
        for opened in scorer.models[group]:
            opened.session.run(slices, member)


def _decode_here(scorer: Scorer, found: Inventory) -> tuple[float, float]:
    """Seconds of decoding and of preprocessing, file by file."""
    decode_s = preprocess_s = 0.0
    preprocessing = scorer.bundle.preprocessing
    for detector in scorer.bundle.detectors:
        for study in found.studies:
            for path in (file for series in study.of(detector.group) for file in series.files):
                start = time.perf_counter()
                frames = read_frames(path)
                between = time.perf_counter()
                for one in frames:
                    one.square(detector.size_px, preprocessing)
                decode_s += between - start
                preprocess_s += time.perf_counter() - between
    return decode_s, preprocess_s


def _decode_only(scorer: Scorer, found: Inventory, workers: int) -> None:
    _exhaust(scorer.decoded(found, workers=workers))


def _exhaust(items: Iterator[object]) -> None:
    deque(items, maxlen=0)
