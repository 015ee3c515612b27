"""All studies of a phantom, and its tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.system.processes import map_ahead
from rsna_lumbar.train.phantom.options import PhantomOptions
from rsna_lumbar.train.phantom.seeds import PARTS, StudySeed
from rsna_lumbar.train.phantom.study import StudyRecord, make_study
from rsna_lumbar.train.phantom.tables import (
    write_series_table,
    write_submission,
    write_train_tables,
)


def make_phantom(
    out: Path,
    options: PhantomOptions,
    *,
    workers: int = 1,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Write a data set in the challenge's layout below ``out``.

    The same options give the same bytes, for any number of ``workers`` (processes, 1 or more).
    Study k does not depend on the number of studies. ``progress`` is called with 1 after each
    study. ``sample_submission.csv`` lists the test studies, or the train studies if there are none,
    so that ``train_images`` can be scored. Test folders and tables exist only if there are test
    studies. Tables are written last: a folder without them is not finished.

    Raises ``DataError`` if ``out`` is not empty: old slices would be mixed with new ones.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; name a new one")
    out.mkdir(parents=True, exist_ok=True)
    counts = (options.studies, options.test_studies)
    seeds = [
        StudySeed(options.seed, part, index) for part in range(2) for index in range(counts[part])
    ]
    workers = max(1, min(workers, len(seeds)))
    records = []
    for record in map_ahead(partial(make_study, out, options), seeds, workers=workers, batch=1):
        records.append(record)
        progress(1)
    _write_tables(out, options, records[: options.studies], records[options.studies :])


def _write_tables(
    out: Path, options: PhantomOptions, train: list[StudyRecord], test: list[StudyRecord]
) -> None:
    train, test = (sorted(part, key=lambda record: record.study_id) for part in (train, test))
    (out / "train_images").mkdir(exist_ok=True)
    write_train_tables(out, train)
    line_end = "\r\n" if "crlf" in options.quirks else "\n"
    for name, part in zip(PARTS, (train, test), strict=True):
        if part or name == "train":
            write_series_table(out / f"{name}_series_descriptions.csv", part, line_end)
    write_submission(out / "sample_submission.csv", test or train)
