"""Times every stage of a run alone, in this process, for the build that the process imports.

    walk     stream_studies to the end, with a table of series and without one
    decode   files to squares: reading, decoding, preprocessing; no model, no other process
    infer    scoring of sets that were decoded before
    write    rsna-run with given studies, sets, models and scores: rows, evidence, journal,
             manifests, and reading its options

``before_after_stages`` runs this as a file (``python -P FILE TASK``), so that every name comes from
the build on PYTHONPATH. It uses only names that both builds have.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

from rsna_lumbar.runtime import cli
from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.inference import pipeline
from rsna_lumbar.runtime.inference.pipeline import decoded_sets
from rsna_lumbar.runtime.run import run
from rsna_lumbar.runtime.studies import finder
from rsna_lumbar.runtime.studies.finder import stream_studies

if TYPE_CHECKING:  # builds differ in where these are
    from rsna_lumbar.runtime import Study, StudyScore, StudyStream

Item = TypeVar("Item")
WALK_TABLE, WALK_HEADERS = "walk, table", "walk, headers"
DECODE, INFER, WRITE = "decode to squares", "infer", "write"
STAGES = (WALK_TABLE, WALK_HEADERS, DECODE, INFER, WRITE)
# In the working folder; the record is what was measured.
RECORD, SUBMISSION, EVIDENCE = "stages.json", "stages.csv", "stages.jsonl"
PAUSE_S = 0.02  # before each repetition; threads of the one before spin that long
MOST = 100  # repetitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The work to time."""

    data: str  # studies with a table of series
    without_table: str  # the same studies
    bundle: str
    backend: str
    precision: str
    slices: str
    threads: int
    least: int = 3  # repetitions of a stage
    repeat_s: float = 1.0  # short stages are repeated for so long


def time_stages(task: Task) -> dict[str, dict[str, Any]]:
    """Stage -> seconds of processor and of wall, medians, and a hash of what came out."""
    clock = _Clock(task)
    for name, root in ((WALK_TABLE, task.data), (WALK_HEADERS, task.without_table)):
        clock.time(name, partial(_walk, Path(root)), _files_of)
    walked, bundle = _walked(Path(task.data)), read_bundle(Path(task.bundle))
    sets = clock.time(
        DECODE,
        lambda: decoded_sets(bundle, walked(), workers=0, slices=task.slices),
        lambda one: b"".join(slice_.image.tobytes() for slice_ in one.slices),
    )
    with _opened(task) as scorer:
        scores = clock.time(
            INFER,
            lambda: scorer.scored(walked(), sets),
            lambda one: b"".join(group.probability.tobytes() for group in one.groups),
        )
        clock.time(WRITE, partial(_write, task, walked, scorer, scores), Path.read_bytes)
    return clock.stages


class _Clock:
    """Times stages one after the other."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.stages: dict[str, dict[str, Any]] = {}

    def time(
        self, name: str, work: Callable[[], Iterable[Item]], content: Callable[[Item], bytes]
    ) -> list[Item]:
        """Run the work once to warm up and keep its result; then time it."""
        items = list(work())
        found = hashlib.sha256(b"".join(map(content, items))).hexdigest()
        cpu_s, wall_s = map(statistics.median, zip(*self._repeated(work), strict=True))
        self.stages[name] = {"cpu_s": cpu_s, "wall_s": wall_s, "found": found}
        return items

    def _repeated(self, work: Callable[[], Iterable[object]]) -> Iterator[tuple[float, float]]:
        until = time.perf_counter() + self._task.repeat_s
        for number in range(MOST):
            if number >= self._task.least and time.perf_counter() >= until:
                break
            time.sleep(PAUSE_S)
            yield _cost(work)


def _cost(work: Callable[[], Iterable[object]]) -> tuple[float, float]:
    """Seconds of the processor, of all threads, and of wall."""
    wall, cpu = time.perf_counter(), time.process_time()
    deque(work(), maxlen=0)
    return time.process_time() - cpu, time.perf_counter() - wall


def _walk(root: Path) -> Iterator[Study]:
    return stream_studies(root).studies


def _walked(root: Path) -> Callable[..., StudyStream]:
    """Gives the studies, which are looked into here and now, as often as it is called."""
    stream = stream_studies(root)
    studies = tuple(stream.studies)
    return lambda *_: replace(stream, studies=iter(studies))


def _files_of(study: Study) -> bytes:
    series = [
        (one.series_id, one.group and one.group.name, [file.name for file in one.files])
        for one in study.series
    ]
    return repr((study.study_id, series)).encode()


def _opened(task: Task) -> Scorer:
    return Scorer(
        Path(task.bundle),
        backend=task.backend,
        precision=task.precision,
        device="cpu",
        threads=task.threads,
    )


def _write(
    task: Task, walked: Callable[..., StudyStream], opened: Scorer, scores: Sequence[StudyScore]
) -> list[Path]:
    """The output of ``rsna-run``, with everything else done before."""
    left = iter(scores)

    def scored(_: object, here: StudyStream, *__: object) -> Iterator[StudyScore]:
        return (score for _, score in zip(here.studies, left, strict=True))

    with ExitStack() as stack:
        for owner, name, ready in (
            (finder, "stream_studies", walked),
            (pipeline, "decoded_sets", _nothing),
            (pipeline, "scored", scored),
            (run, "OpenBundle", lambda *_, **__: opened),
            (Scorer, "close", lambda _: None),  # it is needed again
        ):
            stack.enter_context(patch.object(owner, name, ready))
        cli.cli.main(_words(task), standalone_mode=False)
    if next(left, None) is not None:
        raise RuntimeError("rsna-run of this build did not take the scores that it was handed")
    return [Path(SUBMISSION), Path(EVIDENCE)]


def _nothing(*_: object, **__: object) -> Iterator[object]:
    yield from ()


def _words(task: Task) -> list[str]:
    words = [task.data, "--bundle", task.bundle, "--output", SUBMISSION, "--evidence", EVIDENCE]
    words += ["--backend", task.backend, "--precision", task.precision, "--device", "cpu"]
    return [*words, "--slices", task.slices, "--threads", str(task.threads), "--workers", "1"]


if __name__ == "__main__":
    asked = Task(**json.loads(sys.argv[1]))
    Path(RECORD).write_text(json.dumps(time_stages(asked)))
