"""The Python API: open a bundle and score studies, each score as soon as it is done."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

import numpy as np
from pydicom.dataset import Dataset

from rsna_lumbar.runtime.backends import NO_OPTIONS
from rsna_lumbar.runtime.core.errors import BundleError, DataError, UsageError
from rsna_lumbar.runtime.core.labels import (
    FORAMINAL,
    GRADES,
    SPINAL,
    SUBARTICULAR,
    SUBMISSION_COLUMNS,
    Group,
    row_id,
)
from rsna_lumbar.runtime.core.reasons import Skip
from rsna_lumbar.runtime.decode.decoder import DecodeInMemory, Image
from rsna_lumbar.runtime.decode.slice_sets import SELECTIONS, SetRequest, SliceSet, decode_sets
from rsna_lumbar.runtime.inference.compatibility import AUTO
from rsna_lumbar.runtime.inference.loaded_bundle import OpenBundle
from rsna_lumbar.runtime.inference.pipeline import decoded_sets, looked_at, scored
from rsna_lumbar.runtime.inference.plan import plan_for
from rsna_lumbar.runtime.inference.scores import GroupScore, StudyScore
from rsna_lumbar.runtime.inference.selection import Wanted
from rsna_lumbar.runtime.run.console import choice_line, missing_groups_line, skip_line
from rsna_lumbar.runtime.run.submission import submission_header, submission_lines, submission_rows
from rsna_lumbar.runtime.studies.finder import nothing_to_score, stream_studies
from rsna_lumbar.runtime.studies.study import (
    FOLDER,
    FROM_CALLER,
    UID,
    Inventory,
    Series,
    Study,
    StudyStream,
)
from rsna_lumbar.runtime.studies.tables import read_study_list
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.closing import Closing
from rsna_lumbar.runtime.system.machine import CPU

if TYPE_CHECKING:
    import pandas as pd

LOGGER = logging.getLogger("rsna_lumbar")
AnyPath = str | os.PathLike[str]
Data = AnyPath | Sequence[AnyPath] | Inventory | StudyStream
Progress = Callable[[int, int], object]
FRAME_COLUMNS = (
    *SUBMISSION_COLUMNS,
    *("study_id", "condition", "level", "filled"),
    *(f"{grade}_{what}" for grade in GRADES for what in ("peak", "file", "frame", "x", "y")),
)
LARGEST_ITEM_BYTES = 4  # of an array: preprocessing computes in 64 bits


class Scores(Iterator[StudyScore], Closing):
    """Scores of studies in the order of the submission, each available as soon as it is done.

    An iterator that can be used only once, and a context manager: closed, it ends its decoding
    processes. ``count`` is the number of studies.
    """

    def __init__(
        self, found: StudyStream, scores: Generator[StudyScore], progress: Progress | None
    ) -> None:
        self.count = found.count
        self._scores = scores
        self._progress = progress
        self._done = 0
        _log(found.strays)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StudyScore:
        """The next study.

        Raises:
            BackendError: a model failed, or returned a value that is not a number.
            DataError: a decoding process could not start.
        """
        score = next(self._scores)
        self._done += 1
        _log(score.skips)
        if self._progress:
            self._progress(self._done, self.count)
        return score

    def to_frame(self, *, places: bool = False) -> pd.DataFrame:
        """The remaining studies as a submission table: one row per condition and level.

        Args:
            places: add ``study_id``, ``condition``, ``level``, ``filled`` (why the row is a prior
                row, otherwise empty), and for each grade ``<grade>_peak`` and the position of the
                peak: ``_file``, ``_frame``, ``_x``, ``_y`` (pixels of the file as stored).

        Returns:
            ``row_id``, ``normal_mild``, ``moderate``, ``severe`` (float64, summing to 1).
        """
        import pandas as pd

        if not places:
            rows = [row for score in self for row in submission_rows(score)]
            return pd.DataFrame(rows, columns=list(SUBMISSION_COLUMNS))
        rows_with_places = [row for score in self for row in _rows_with_places(score)]
        return pd.DataFrame(rows_with_places, columns=list(FRAME_COLUMNS))

    def to_csv(self, path: AnyPath) -> None:
        """Write the remaining studies as the command writes a submission, when all are scored.

        Args:
            path: written aside and renamed at the end. Names that a spreadsheet would take for a
                formula are escaped; a frame holds them as they are.
        """
        text = submission_header() + "".join(map(submission_lines, self))
        write_atomically(Path(path), text)

    def close(self) -> None:
        """Stop decoding; the remaining studies are not scored."""
        self._scores.close()


class Scorer(OpenBundle):
    """A bundle opened for scoring; a context manager.

    Args:
        bundle: the bundle's folder, made by rsna-export.
        backend: a name in ``rsna_lumbar.runtime.backends.BACKENDS``, or ``auto``: the fastest
            backend that the bundle contains and this machine can run.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``, or ``auto``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: slices per batch; None takes the backend's default for the device.
        threads: threads of the runtime library on the CPU; None takes every usable core.
        trust: also open engines that were not built or accepted here. Engines are executable code.
        options: options of the runtime library, by the library's names: session config entries of
            ONNX Runtime, properties of OpenVINO. They are set after the options of this package.

    Raises:
        BundleError: the bundle cannot be trusted.
        UsageError: the backend, precision, device or an option is not available.
        BackendError: a model cannot be opened.

    Messages that the command prints to standard error go to ``logging.getLogger("rsna_lumbar")``:
    the chosen models and the reason as INFO, skipped input as WARNING, or as DEBUG if it is
    harmless. Studies and files have their original names in these messages.
    """

    def __init__(
        self,
        bundle: AnyPath,
        *,
        backend: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
        trust: bool = False,
        options: Mapping[str, str] = NO_OPTIONS,
    ) -> None:
        if options and backend == AUTO:
            raise UsageError("options are those of one runtime library; name its backend as well")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; it must be 1 or more")
        wanted = Wanted(backend, precision, device, batch_size)
        plan = plan_for(Path(bundle), wanted, trust=trust)
        try:
            super().__init__(plan, threads=threads, options=options)
        except BundleError:
            again = plan_for(Path(bundle), wanted, trust=trust)
            if again.bundle == plan.bundle:
                raise
            # The bundle was replaced between reading its manifest and reading its files.
            super().__init__(again, threads=threads, options=options)
        self._given_out: WeakSet[Scores] = WeakSet()
        self._closed = False
        LOGGER.info("%s", choice_line(self))
        if line := missing_groups_line(self.bundle):
            LOGGER.info("%s", line)

    def score(
        self,
        data: Data,
        *,
        series: AnyPath | None = None,
        studies: AnyPath | Iterable[str] | None = None,
        ids: str | None = None,
        slices: str = "all",
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """Score studies, in the order of the submission.

        Args:
            data: the same as DATA of ``rsna-run``: a path, or several; or the result of
                :func:`rsna_lumbar.runtime.find_studies` or ``stream_studies``.
            series: CSV that assigns series to detectors; only if ``data`` is paths.
            studies: CSV with ``study_id``, or ids: score only these studies; only if ``data`` is
                paths.
            ids: what names studies and series, ``folder`` or ``uid``; only if ``data`` is paths.
            slices: which slices of a series are read: ``all`` or ``relevant``.
            workers: number of decoding processes; 0 decodes in this process, beside the model. None
                starts some if there are hundreds of files. They do not import the caller's script.
            progress: called after each study with the studies done and the total.

        Raises:
            DataError: the folder does not exist or has nothing to score, or a table cannot be used.
            UsageError: an option has an invalid value, or no path is given.
        """
        self._require_open()
        if slices not in SELECTIONS:
            raise UsageError(f"slices {slices!r} is none of {', '.join(SELECTIONS)}")
        if ids not in (None, FOLDER, UID):
            raise UsageError(f"ids {ids!r} is none of {FOLDER}, {UID}; the command alone has hash")
        if workers is not None and workers < 0:
            raise UsageError(f"workers is {workers}; it must be 0 or more")
        if isinstance(data, Inventory | StudyStream):
            if series is not None or studies is not None or ids is not None:
                raise UsageError("series, studies and ids are for paths, not for what was found")
            found = data.stream() if isinstance(data, Inventory) else data
        else:
            found = _found(data, series, studies, ids)
        found, workers = looked_at(found, workers, small_job=0, on_gpu=self.device != CPU)
        scores = Scores(found, self._score(found, workers, slices), progress)
        self._given_out.add(scores)
        return scores

    def score_study(
        self,
        *,
        spinal: Sequence[Image] = (),
        foraminal: Sequence[Image] = (),
        subarticular: Sequence[Image] = (),
        study_id: str = "study",
    ) -> StudyScore:
        """Score one study whose images are in memory.

        Args:
            spinal: sagittal T2 slices: pydicom data sets, or integer arrays (rows, columns).
                Data sets are ordered and turned by their position and orientation, if present.
                Arrays are used as they are: front of the patient at smaller columns, head up.
            foraminal: sagittal T1 slices, in the same form.
            subarticular: axial T2 slices, in the same form; the patient's left at larger columns,
                front up.
            study_id: names the study in its rows.

        Returns:
            The study's groups in the bundle's order, with prior rows for a group that has no usable
            slice. ``skips`` lists the images that could not be used, called ``spinal/0``,
            ``spinal/1`` and so on.

        Raises:
            UsageError: images for a group that the bundle has no detector for, or no images at all.
            DataError: an array that is not (rows, columns) integers.
            BackendError: a model failed, or returned a value that is not a number.
        """
        self._require_open()
        given = {SPINAL: spinal, FORAMINAL: foraminal, SUBARTICULAR: subarticular}
        images = {
            Path(group.name, str(index)): _checked(image, f"{group.name}/{index}")
            for group, some in given.items()
            for index, image in enumerate(some)
        }
        if not images:
            raise UsageError("no image was given; name at least one of spinal, foraminal, ...")
        for group in self.bundle.missing_groups:
            if len(given[group]):
                raise UsageError(f"the bundle has no {group.name} detector")
        series = tuple(
            Series(study_id, group.name, group, FROM_CALLER, _files_of(group, images))
            for group, some in given.items()
            if len(some)
        )
        study = Study(study_id, series, listed=True)
        found = Inventory(Path(), (study,), ())
        requests = (SetRequest.of(study, d.group, d.size_px) for d in self.bundle.detectors)
        decoder = DecodeInMemory(self.bundle.preprocessing, images)
        (score,) = self.scored(found, decode_sets(requests, decoder, data=Path()))
        _log(score.skips)
        return score

    def decoded(
        self, found: Inventory | StudyStream, *, workers: int = 0, slices: str = "all"
    ) -> Generator[SliceSet]:
        """The first half of :meth:`score`: decode every set of every study, in order."""
        return decoded_sets(self.bundle, found, workers=workers, slices=slices)

    def scored(
        self, found: Inventory | StudyStream, sets: Iterable[SliceSet]
    ) -> Iterator[StudyScore]:
        """The second half of :meth:`score`: score studies whose sets are decoded."""
        return scored(self, found, sets)

    def close(self) -> None:
        """Release the models, and end the decoding of scores that were not taken to their end."""
        self._closed = True
        for scores in list(self._given_out):
            scores.close()
        super().close()

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError("the scorer is closed; open another")

    def _score(self, found: StudyStream, workers: int, slices: str) -> Generator[StudyScore]:
        here, ahead = found.twice()
        with closing(self.decoded(ahead, workers=workers, slices=slices)) as sets:
            yield from self.scored(here, sets)


def _found(
    data: AnyPath | Sequence[AnyPath],
    series: AnyPath | None,
    studies: AnyPath | Iterable[str] | None,
    ids: str | None,
) -> StudyStream:
    several = [data] if isinstance(data, str | os.PathLike) else data
    wanted: Collection[str] | None = None
    if isinstance(studies, str | os.PathLike):
        wanted = read_study_list(Path(studies))
    elif studies is not None:
        wanted = {str(one) for one in studies}
        if not wanted:
            raise UsageError("the list of studies is empty; None takes all that there are")
    if not several:
        raise UsageError("no folder or file was named")
    table = None if series is None else Path(series)
    found = stream_studies([Path(one) for one in several], table, studies=wanted, ids=ids)
    if not found.ids:
        raise DataError(nothing_to_score(found))
    return found


def _checked(image: Image, name: str) -> Image:
    if isinstance(image, Dataset):
        if getattr(image, "file_meta", None) is None:
            raise DataError(f"{name} has no file meta information, which names its transfer syntax")
        return image
    array = np.asarray(image)
    integers = np.issubdtype(array.dtype, np.integer) and array.itemsize <= LARGEST_ITEM_BYTES
    if array.ndim != 2 or not array.size or not integers:
        raise DataError(
            f"{name} is {array.dtype} of shape {array.shape}; "
            "give (rows, columns) integers of at most 32 bits"
        )
    return array


def _files_of(group: Group, images: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(name for name in images if name.parent.name == group.name)


def _rows_with_places(score: StudyScore) -> Iterator[dict[str, Any]]:
    places = {
        row_id(score.study_id, *location): (group, index, location)
        for group in score.groups
        for index, location in enumerate(group.group.locations)
    }
    for row in submission_rows(score):
        group, index, (condition, level) = places[row[0]]
        yield {
            **dict(zip(SUBMISSION_COLUMNS, row, strict=True)),
            "study_id": score.study_id,
            "condition": condition,
            "level": level,
            "filled": group.why_prior(index) or "",
            **_places(group, index),
        }


def _places(group: GroupScore, index: int) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for grade, name in enumerate(GRADES):
        at = index * len(GRADES) + grade
        place = group.places[at] if group.places else None
        seen[f"{name}_peak"] = np.nan if group.peak is None or not place else float(group.peak[at])
        seen[f"{name}_file"] = str(place.file) if place else ""
        seen[f"{name}_frame"] = place.frame if place else -1
        seen[f"{name}_x"] = place.x if place else np.nan
        seen[f"{name}_y"] = place.y if place else np.nan
    return seen


def _log(skips: Iterable[Skip]) -> None:
    for skip in skips:
        LOGGER.log(logging.DEBUG if skip.harmless else logging.WARNING, "%s", skip_line(skip))
