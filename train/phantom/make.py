"""All studies of a phantom, and its tables."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.system.processes import worker_pool
from rsna_lumbar.train.phantom.options import PhantomOptions
from rsna_lumbar.train.phantom.seeds import StudySeed
from rsna_lumbar.train.phantom.study import StudyRecord, make_study
from rsna_lumbar.train.phantom.tables import (
    write_series_table,
    write_submission,
    write_train_tables,
)

_PARTS = ("train", "test")


def make_phantom(
    out: Path,
    options: PhantomOptions,
    *,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes a data set in the challenge's layout below ``out``.

    The same options give the same bytes, whatever ``workers`` (processes, 1 or more); study k is
    the same however many studies there are. ``progress`` is called with 1 after each study.
    ``sample_submission.csv`` lists the test studies; without any, the train studies, so that
    ``train_images`` can be scored. Test folders and tables exist only where there are test
    studies. Tables come last: a folder without them is not finished.

    Raises ``DataError`` if ``out`` holds anything already, for stale slices would count.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; name a new one")
    out.mkdir(parents=True, exist_ok=True)
    counts = (options.studies, options.test_studies)
    seeds = [
        StudySeed(options.seed, part, index) for part in range(2) for index in range(counts[part])
    ]
    records = []
    with closing(_make_all(out, options, seeds, workers)) as made:
        for record in made:
            records.append(record)
            if progress is not None:
                progress(1)
    _write_tables(out, options, records[: options.studies], records[options.studies :])


def _make_all(
    out: Path, options: PhantomOptions, seeds: list[StudySeed], workers: int
) -> Generator[StudyRecord, None, None]:
    """Records in the order of the seeds."""
    make = partial(_make_one, out, options)
    if workers == 1 or len(seeds) < 2:
        yield from map(make, seeds)
        return
    with worker_pool(min(workers, len(seeds))) as pool:
        yield from pool.map(make, seeds)


def _make_one(out: Path, options: PhantomOptions, seed: StudySeed) -> StudyRecord:
    return make_study(out / f"{_PARTS[seed.part]}_images", seed, options)


def _write_tables(
    out: Path, options: PhantomOptions, train: list[StudyRecord], test: list[StudyRecord]
) -> None:
    train, test = (sorted(part, key=lambda record: record.study_id) for part in (train, test))
    (out / "train_images").mkdir(exist_ok=True)
    write_train_tables(out, train)
    line_end = "\r\n" if "crlf" in options.quirks else "\n"
    for name, part in zip(_PARTS, (train, test), strict=True):
        if part or name == "train":
            write_series_table(out / f"{name}_series_descriptions.csv", part, line_end)
    write_submission(out / "sample_submission.csv", test or train)
