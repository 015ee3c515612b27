"""Studies -> 25 rows each: the pipeline from an inventory to scores.

    requests -> sets (decoded ahead) -> batches -> sessions -> peaks -> probabilities

All of it is one chain of generators, in one fixed order: chunk of studies, then group, then
study. A batch never holds sets of two chunks, so a chunk can be repeated alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import Outputs, Session, load_backend
from rsna_lumbar.runtime.batches import Batch, Part, fill_batches
from rsna_lumbar.runtime.bundle import Bundle, Detector, Model, read_bundle, read_model
from rsna_lumbar.runtime.cells import cell_centre
from rsna_lumbar.runtime.discovery import Inventory, Progress, Study, ignore_progress
from rsna_lumbar.runtime.errors import BackendError, UsageError
from rsna_lumbar.runtime.grading import combine_detectors, probabilities
from rsna_lumbar.runtime.labels import GROUPS, Group
from rsna_lumbar.runtime.preprocess import Placement
from rsna_lumbar.runtime.processes import usable_cores
from rsna_lumbar.runtime.reasons import Reason, Skip
from rsna_lumbar.runtime.sets import (
    SetRequest,
    SliceSet,
    decode_sets,
)

STUDIES_A_CHUNK = 32
AUTO_BACKEND = "onnxruntime"


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


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model of the bundle, opened."""

    model: Model
    session: Session


class Scorer:
    """A bundle opened for scoring; a context manager.

    Args:
        bundle_folder: made by rsna-export.
        backend: a name in ``rsna_lumbar.runtime.backends.BACKENDS``, or ``auto``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: slices in a batch; None takes the backend's default for the device.
        threads: of the runtime on the CPU; None takes every usable core.

    Raises:
        BundleError: the bundle cannot be trusted.
        UsageError: the backend or device cannot be had.
        BackendError: a model cannot be opened.
    """

    def __init__(
        self,
        bundle_folder: Path,
        *,
        backend: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.bundle: Bundle = read_bundle(bundle_folder)
        self.backend = AUTO_BACKEND if backend == "auto" else backend
        self._resources = ExitStack()
        module = load_backend(self.backend)
        self.opened: dict[str, tuple[OpenModel, ...]] = {}
        try:
            for detector in self.bundle.detectors:
                self.opened[detector.group.name] = tuple(
                    OpenModel(
                        model,
                        self._resources.enter_context(
                            module.open_session(
                                read_model(bundle_folder, model),
                                detector=detector,
                                device=device,
                                threads=threads or usable_cores(),
                            )
                        ),
                    )
                    for model in _models_for(detector, self.backend)
                )
        except BaseException:
            self.close()
            raise
        first = self.opened[GROUPS[0].name][0].session
        self.device = first.device
        self.device_note = first.note
        self.batch_size = batch_size or module.default_batch_size(self.device)

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
        for batch in fill_batches(sets, self.batch_size):
            outputs = [self._run(opened, batch) for opened in self.opened[name]]
            for row, part in enumerate(batch.parts):
                seen.append(_PartPeaks.of(part, row, outputs))
                if part.last:
                    yield part.of.request.study_id, _group_score(detector, part, seen)
                    seen = []

    def _run(self, opened: OpenModel, batch: Batch) -> Outputs:
        outputs = opened.session.run(batch.slices, batch.member)
        if not (np.isfinite(outputs.peak).all() and np.isfinite(outputs.probability).all()):
            raise BackendError(
                f"{opened.model.file} returned values that are not numbers on {self.device}; "
                "check it with rsna-export --inspect, or use --device cpu"
            )
        return outputs

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


def _models_for(detector: Detector, backend: str) -> tuple[Model, ...]:
    """One model for each set of weights."""
    chosen = {m.weights_sha256: m for m in detector.models if m.backend == backend}
    if len(chosen) < len({model.weights_sha256 for model in detector.models}):
        raise UsageError(
            f"the bundle has no {detector.group.name} model for the backend {backend}; "
            "rsna-export --inspect shows what it has"
        )
    return tuple(chosen.values())
