"""Studies -> 25 rows each: the pipeline from found studies to scores.

    studies -> requests -> sets (decoded ahead) -> batches -> sessions -> peaks -> probabilities

The order is always the same: study by study, group by group. A batch never holds sets of two
chunks, so one chunk can be repeated alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from itertools import chain

from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.core.reasons import Reason, Skip
from rsna_lumbar.runtime.decode.factory import FILES_WORTH_A_POOL, default_workers, open_decoder
from rsna_lumbar.runtime.decode.slice_sets import SetRequest, SliceSet, decode_sets
from rsna_lumbar.runtime.inference.loaded_bundle import OpenBundle
from rsna_lumbar.runtime.inference.scheduler import Assembly
from rsna_lumbar.runtime.inference.scores import StudyScore
from rsna_lumbar.runtime.studies.study import (
    STUDIES_A_CHUNK,
    Inventory,
    Series,
    Study,
    StudyStream,
    chunk_ends,
)


def decoded_sets(
    bundle: Bundle, found: Inventory | StudyStream, *, workers: int, slices: str = "all"
) -> Generator[SliceSet, None, None]:
    """Every set of every study, including empty ones, in the order of scoring.

    Studies are read a little ahead. ``workers`` decoding processes start with the first set; 0
    decodes in this process. ``slices`` is a name in ``decode.slice_sets.SELECTIONS``.
    """
    largest_px = max(one.size_px for one in bundle.detectors)
    with open_decoder(workers, bundle.preprocessing, largest_px=largest_px) as decoder:
        yield from decode_sets(
            _requests(bundle, found.studies), decoder, data=found.data, slices=slices
        )


def scored(
    opened: OpenBundle,
    found: Inventory | StudyStream,
    sets: Iterable[SliceSet],
    studies_a_chunk: int = STUDIES_A_CHUNK,
) -> Iterator[StudyScore]:
    """Score studies whose sets are decoded, in order, each as soon as its last batch is done.

    Raises:
        BackendError: a model failed, or returned a value that is not a number.
        ValueError: the sets do not belong to the studies.
    """
    assembly = Assembly(opened)
    sets = iter(sets)
    for study, ends_chunk in zip(found.studies, chunk_ends(studies_a_chunk), strict=False):
        assembly.begin(as_read_by(opened.bundle, study))
        for _ in opened.bundle.detectors:
            assembly.add(next(sets))
        if ends_chunk:
            assembly.flush()
        yield from assembly.complete()
    yield from assembly.finish()
    if next(sets, None) is not None:
        raise ValueError("more sets than studies; a stream of studies can be gone through once")


def as_read_by(bundle: Bundle, study: Study) -> Study:
    """A study in which series of groups that the bundle lacks are not scored, and are reported.

    If a table lists such a series and it is missing, that is not a fault.
    """
    missing = bundle.missing_groups
    if not missing:
        return study
    unread = [one for one in study.series if one.group in missing]
    not_needed = {group.series_kind for group in missing}
    skips = (
        *(
            skip
            for skip in study.skips
            if not (skip.reason is Reason.SERIES_NOT_FOUND and skip.detail in not_needed)
        ),
        *(_no_detector(study, one) for one in unread if one.files),
    )
    series = (replace(one, group=None) if one in unread else one for one in study.series)
    return replace(study, series=tuple(series), skips=skips)


def _no_detector(study: Study, series: Series) -> Skip:
    assert series.group, "it is read by a group that the bundle lacks"
    what = f"{study.study_id}/{series.series_id}"
    detail = f"{series.group.series_kind}, series of {len(series.files)} files"
    return Skip(Reason.NO_DETECTOR, what, detail)


def looked_at(
    found: StudyStream, workers: int | None, *, small_job: int, on_gpu: bool
) -> tuple[StudyStream, int]:
    """Decide how many decoding processes to use; continue with the returned stream.

    Only as many studies are read as are needed to tell a small job from a large one.

    Args:
        found: the studies.
        workers: requested number of processes; None decides here.
        small_job: number of processes for a few files.
        on_gpu: whether the models run on a GPU.
    """
    if workers is not None:
        return found, workers
    first, files = [], 0
    for study in found.studies:
        first.append(study)
        files += study.file_count
        if files >= FILES_WORTH_A_POOL:
            break
    again = found.narrowed(chain(first, found.studies))
    return again, small_job if files < FILES_WORTH_A_POOL else default_workers(files, on_gpu=on_gpu)


def _requests(bundle: Bundle, studies: Iterable[Study]) -> Iterator[SetRequest]:
    for study in studies:
        for detector in bundle.detectors:
            yield SetRequest.of(study, detector.group, detector.size_px)
