"""Studies -> 25 rows each: the pipeline from an inventory to scores.

    requests -> sets (decoded ahead) -> batches -> sessions -> peaks -> probabilities

All of it is one chain of generators, in one fixed order: chunk of studies, then group, then
study. A batch never holds sets of two chunks, so a chunk can be repeated alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import Outputs, Wait, load_backend
from rsna_lumbar.runtime.batches import Batch, Part, fill_batches
from rsna_lumbar.runtime.bundle import Bundle, Detector, read_bundle
from rsna_lumbar.runtime.cells import cell_centre
from rsna_lumbar.runtime.choice import Candidate, Wanted, choose
from rsna_lumbar.runtime.discovery import Inventory, Progress, Study, ignore_progress
from rsna_lumbar.runtime.errors import BackendError, BundleError
from rsna_lumbar.runtime.grading import combine_detectors, probabilities
from rsna_lumbar.runtime.labels import GROUPS, Group
from rsna_lumbar.runtime.machine import this_machine
from rsna_lumbar.runtime.opened import OpenModel, OpenVariant, open_best
from rsna_lumbar.runtime.preprocess import Placement
from rsna_lumbar.runtime.processes import usable_cores
from rsna_lumbar.runtime.reasons import Reason, Skip
from rsna_lumbar.runtime.sets import (
    SetRequest,
    SliceSet,
    decode_sets,
)
from rsna_lumbar.runtime.trust import TrustedEngines

STUDIES_A_CHUNK = 32


@dataclass(frozen=True, slots=True)
class PeakPlace:
    """Where a class peaked: a frame of a file, and pixels (centres at whole numbers) in it."""

    file: Path
    frame: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class GroupScore:
    """One group of one study."""

    group: Group
    probability: NDArray[np.float64]  # (locations, 3), rows sum to 1
    filled: Reason | None  # why these are the bundle's prior rows; None where they were scored
    slice_count: int
    peak: NDArray[np.float32] | None  # (C,) in canonical class order
    places: tuple[PeakPlace, ...]  # one a class


@dataclass(frozen=True, slots=True)
class StudyScore:
    """One study: its groups in the order of GROUPS, or none where nothing asks for its rows."""

    study_id: str
    groups: tuple[GroupScore, ...]
    skips: tuple[Skip, ...]


class Scorer:
    """A bundle opened for scoring; a context manager.

    Args:
        bundle_folder: made by rsna-export.
        backend: a name in ``rsna_lumbar.runtime.backends.BACKENDS``, or ``auto``: the fastest that
            the bundle holds and this machine can run.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``, or ``auto``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: slices in a batch; None takes the backend's default for the device.
        threads: of the runtime on the CPU; None takes every usable core.
        trust: open engines that were not built or accepted here, too. They are code.

    Raises:
        BundleError: the bundle cannot be trusted.
        UsageError: the backend, precision or device cannot be had.
        BackendError: a model cannot be opened.
    """

    def __init__(
        self,
        bundle_folder: Path,
        *,
        backend: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
        trust: bool = False,
    ) -> None:
        self._resources = ExitStack()
        wanted = Wanted(backend, precision, device, batch_size)
        trusted = None if trust else TrustedEngines()
        self.bundle: Bundle = read_bundle(bundle_folder)
        try:
            opened = self._open(bundle_folder, wanted, trusted, threads)
        except BundleError:
            before, self.bundle = self.bundle, read_bundle(bundle_folder)
            if self.bundle == before:
                raise
            # It was replaced between its manifest and its files.
            opened = self._open(bundle_folder, wanted, trusted, threads)
        self.opened = opened.models
        self.candidate: Candidate = opened.candidate
        self.device = opened.candidate.device
        self.note = opened.note
        self.batch_size = batch_size or self._default_batch_size()

    def _open(
        self,
        folder: Path,
        wanted: Wanted,
        trusted: Container[str] | None,
        threads: int | None,
    ) -> OpenVariant:
        return open_best(
            folder,
            self.bundle,
            choose(self.bundle, this_machine(), wanted, trusted),
            threads=threads or usable_cores(),
            resources=self._resources,
        )

    @property
    def backend(self) -> str:
        return self.candidate.variant.backend

    @property
    def precision(self) -> str:
        return self.candidate.variant.precision

    def _default_batch_size(self) -> int:
        """The backend's own, within what every engine takes."""
        size = load_backend(self.backend).default_batch_size(self.device)
        engines = [one.model.engine for models in self.opened.values() for one in models]
        return min([size, *(engine.largest_batch for engine in engines if engine)])

    def score(
        self, inventory: Inventory, *, workers: int = 0, progress: Progress = ignore_progress
    ) -> Iterator[StudyScore]:
        """Score every study of an inventory, in its order.

        Args:
            inventory: from :func:`rsna_lumbar.runtime.find_studies`.
            workers: decoding processes; 0 decodes in this one. With workers, a script needs
                ``if __name__ == "__main__":``, since they import it.
            progress: called with the number of files of each set that was decoded.

        Raises:
            BackendError: a model failed, or returned what is not a number.
        """
        chunks = _chunks(inventory.studies)
        decoded = decode_sets(
            self._requests(chunks),
            self.bundle.preprocessing,
            data=inventory.data,
            workers=workers,
        )
        counted = _counted(decoded, progress)
        by_chunk = groupby(counted, key=lambda one: one.request.chunk)
        for studies, (_, sets) in zip(chunks, by_chunk, strict=True):
            yield from self._score_chunk(studies, sets)

    def close(self) -> None:
        """Release the models."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _requests(self, chunks: Sequence[tuple[Study, ...]]) -> Iterator[SetRequest]:
        """A request for every study and group, also where there is nothing to decode."""
        for index, studies in enumerate(chunks):
            for detector in self.bundle.detectors:
                for study in studies:
                    files = tuple(series.files for series in study.of(detector.group))
                    yield SetRequest(study.study_id, detector.group, detector.size_px, files, index)

    def _score_chunk(
        self, studies: tuple[Study, ...], sets: Iterable[SliceSet]
    ) -> Iterator[StudyScore]:
        skips: dict[str, list[Skip]] = {study.study_id: [] for study in studies}
        scored: dict[str, dict[str, GroupScore]] = {}
        for name, of_group in groupby(sets, key=lambda one: one.request.group.name):
            noted = _note_skips(of_group, skips)
            scored[name] = dict(self._score_sets(name, noted))
        for study in studies:
            yield self._study_score(study, scored, skips[study.study_id])

    def _score_sets(self, name: str, sets: Iterable[SliceSet]) -> Iterator[tuple[str, GroupScore]]:
        """Scores of the sets that have slices, as (study id, score), once each is complete."""
        detector = next(one for one in self.bundle.detectors if one.group.name == name)
        seen: list[_PartPeaks] = []
        for batch, outputs in self._run(self.opened[name], fill_batches(sets, self.batch_size)):
            for row, part in enumerate(batch.parts):
                seen.append(_PartPeaks.of(part, row, outputs))
                if part.last:
                    yield part.of.request.study_id, _group_score(detector, part, seen)
                    seen = []

    def _run(
        self, models: Sequence[OpenModel], batches: Iterable[Batch]
    ) -> Iterator[tuple[Batch, list[Outputs]]]:
        """Batches with the outputs of every model, as many under way as the backend can use."""
        under_way = deque[tuple[Batch, list[Wait]]]()
        for batch in batches:
            slices, member = batch.slices, batch.member
            under_way.append((batch, [one.session.start(slices, member) for one in models]))
            if len(under_way) >= models[0].session.ahead:
                yield self._finish(models, *under_way.popleft())
        for batch, waits in under_way:
            yield self._finish(models, batch, waits)

    def _finish(
        self, models: Sequence[OpenModel], batch: Batch, waits: Sequence[Wait]
    ) -> tuple[Batch, list[Outputs]]:
        outputs = [wait() for wait in waits]
        for opened, one in zip(models, outputs, strict=True):
            if not (np.isfinite(one.peak).all() and np.isfinite(one.probability).all()):
                raise BackendError(
                    f"{opened.model.files[0].name} returned values that are not numbers on "
                    f"{self.device}; check it with rsna-export --verify, or use --precision fp32 "
                    "--device cpu"
                )
        return batch, outputs

    def _study_score(
        self, study: Study, scored: dict[str, dict[str, GroupScore]], skips: list[Skip]
    ) -> StudyScore:
        if not study.listed and not any(study.of(group) for group in GROUPS):
            skips.append(Skip(Reason.NO_SERIES_TO_SCORE, study.study_id))
            return StudyScore(study.study_id, (), tuple(skips))
        groups = []
        for detector in self.bundle.detectors:
            group = detector.group
            score = scored.get(group.name, {}).get(study.study_id)
            if score is None:
                score = _prior_score(detector, study)
                skips.append(Skip(_fill_reason(group, study), study.study_id, group.series_kind))
            groups.append(score)
        return StudyScore(study.study_id, tuple(groups), tuple(skips))


@dataclass(frozen=True, slots=True)
class _PartPeaks:
    """What every detector of an ensemble saw in one part of a set."""

    peak: NDArray[np.float32]  # (detectors, C)
    probability: NDArray[np.float32]  # (detectors, L, 3), right where the part is the whole set
    index: NDArray[np.int64]  # (detectors, C) into the set's slices
    cell: NDArray[np.int64]  # (detectors, C)

    @classmethod
    def of(cls, part: Part, row: int, outputs: Sequence[Outputs]) -> _PartPeaks:
        return cls(
            peak=np.stack([one.peak[row] for one in outputs]),
            probability=np.stack([one.probability[row] for one in outputs]),
            index=np.stack([one.slice[row] for one in outputs]) - part.row + part.start,
            cell=np.stack([one.cell[row] for one in outputs]),
        )


def _chunks(studies: tuple[Study, ...]) -> list[tuple[Study, ...]]:
    starts = range(0, len(studies), STUDIES_A_CHUNK)
    return [studies[start : start + STUDIES_A_CHUNK] for start in starts]


def _group_score(detector: Detector, part: Part, seen: Sequence[_PartPeaks]) -> GroupScore:
    """Combine the parts of a set and the detectors of an ensemble; ``part`` is the last part."""
    peaks = np.stack([one.peak for one in seen])  # (parts, detectors, C)
    best_part = peaks.argmax(axis=0)  # (detectors, C)
    by_detector = peaks.max(axis=0)  # (detectors, C)
    combined = combine_detectors(by_detector, detector.combination)
    alone = len(seen) == 1 and len(by_detector) == 1
    raw = seen[0].probability[0] if alone else probabilities(combined, detector.calibration)
    best = by_detector.argmax(axis=0)  # (C,)
    places = (
        _place(part.of, seen[best_part[d, c]], d, c, detector.size_px) for c, d in enumerate(best)
    )
    return GroupScore(
        group=detector.group,
        probability=_renormalised(raw),
        filled=None,
        slice_count=len(part.of.slices),
        peak=combined,
        places=tuple(places),
    )


def _place(of: SliceSet, seen: _PartPeaks, detector: int, c: int, size_px: int) -> PeakPlace:
    one = of.slices[seen.index[detector, c]]
    centre = cell_centre(int(seen.cell[detector, c]), size_px)
    x, y = Placement(one.rows, one.columns, size_px).to_image(*centre)
    return PeakPlace(one.file, one.frame, x, y)


def _prior_score(detector: Detector, study: Study) -> GroupScore:
    return GroupScore(
        group=detector.group,
        probability=_renormalised(np.array(detector.prior)),
        filled=_fill_reason(detector.group, study),
        slice_count=0,
        peak=None,
        places=(),
    )


def _fill_reason(group: Group, study: Study) -> Reason:
    return Reason.NO_READABLE_SLICE if study.of(group) else Reason.SERIES_MISSING


def _renormalised(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    return np.asarray(exact / exact.sum(axis=-1, keepdims=True), np.float64)


def _counted(sets: Iterable[SliceSet], progress: Progress) -> Iterator[SliceSet]:
    for one in sets:
        progress(one.request.file_count)
        yield one


def _note_skips(sets: Iterable[SliceSet], skips: dict[str, list[Skip]]) -> Iterator[SliceSet]:
    for one in sets:
        skips[one.request.study_id].extend(one.skips)
        yield one
