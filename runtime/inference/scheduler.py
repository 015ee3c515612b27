"""Sets in, scores out: every group has an open batch, and some batches are in flight.

    set -> packer of its group -> batch -> session -> peaks -> group score -> study score

Sets arrive study by study, so the first study is complete after a few batches, and only a few
studies are in memory, no matter how many there are. Every step depends only on the order of the
sets.

A set that the bundle scores by views waits until the spinal set of its study is scored, because the
peaks of that tell where the discs are. If many slices wait, the spinal batch is not filled first.

If a batch does not fit into memory (MemoryError, or OutOfMemory of a runtime library):

    scheduler   1. wait for the other batches in flight, and drop their results
                2. queue the failed batch, those behind it, and the partly filled ones, in order
    bundle      3. close the models and open them for batches of half the size; note it
                   (a batch of one slice: BackendError ends the run, finished chunks are kept)
    scheduler   4. cut the queued batches to the new size, and go on
    journal     5. the line of each later chunk has the batch size and the note
    next run    6. --resume opens the models for the last batch size; the run manifest has the note
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from rsna_lumbar.runtime.backends import Outputs, Session, Wait
from rsna_lumbar.runtime.core.errors import BackendError, OutOfMemory
from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.reasons import Skip
from rsna_lumbar.runtime.decode.slice_sets import Decoding, SliceSet
from rsna_lumbar.runtime.geometry.discs import Discs
from rsna_lumbar.runtime.inference.batches import Batch, Packer
from rsna_lumbar.runtime.inference.loaded_bundle import OpenBundle
from rsna_lumbar.runtime.inference.scores import (
    GroupScore,
    PartPeaks,
    StudyScore,
    group_score,
    study_score,
)
from rsna_lumbar.runtime.inference.sessions import OpenModel
from rsna_lumbar.runtime.inference.study_discs import discs_of
from rsna_lumbar.runtime.inference.viewed_sets import ViewedSet, by_position, plainly
from rsna_lumbar.runtime.studies.study import Study

MOST_WAITING = 512  # slices: 75 MB at 384 px


class Assembly:
    """Scores the sets of many studies; with smaller batches if one does not fit into memory."""

    def __init__(self, opened: OpenBundle) -> None:
        self._opened = opened
        self._by_views = opened.bundle.groups_by_views
        self._detectors = {one.group.name: one for one in opened.bundle.detectors}
        self._packers = self._new_packers()
        self._todo: deque[tuple[str, Batch]] = deque()
        self._under_way: deque[_UnderWay] = deque()
        self._parts: dict[str, list[PartPeaks]] = {name: [] for name in self._detectors}
        self._studies: deque[_OpenStudy] = deque()

    def begin(self, study: Study) -> None:
        """Declare that the following sets belong to this study."""
        self._studies.append(_OpenStudy(study))

    def add(self, one: SliceSet) -> None:
        """Add a set, and submit the batches that it completed."""
        current = self._studies[-1]
        if one.request.study_id != current.study.study_id:
            raise ValueError(f"a set of {one.request.study_id} among {current.study.study_id}'s")
        current.skips.extend(one.skips)
        current.decoding.add(one.decoding)
        name = one.request.group.name
        if not one.slices:
            return
        current.awaited.add(name)
        if name not in self._by_views:
            self._pack(plainly(one))
        elif SPINAL.name in current.awaited:
            current.waiting.append(one)
            if sum(one.waiting_slices for one in self._studies) > MOST_WAITING:
                self._score_spinal_sets()
        else:
            self._pack(by_position(one, current.discs))
        self._compute()

    def flush(self) -> None:
        """Submit partly filled batches: no batch is shared with later sets."""
        self._score_spinal_sets()
        self._todo.extend(self._partly_filled())
        self._compute()

    def complete(self) -> Iterator[StudyScore]:
        """Studies whose last batch has been scored, in order."""
        while self._studies and not self._studies[0].awaited:
            one = self._studies.popleft()
            detectors = tuple(self._detectors.values())
            yield study_score(one.study, detectors, one.scored, one.skips, one.decoding, one.discs)

    def finish(self) -> Iterator[StudyScore]:
        """Wait for all batches; all sets must have been added."""
        self.flush()
        while self._studies:
            yield from self.complete()
            if self._under_way:
                self._finish(self._under_way.popleft())
                self._compute()

    def _score_spinal_sets(self) -> None:
        """Go on until no set waits for the discs of its study."""
        if any(one.waiting for one in self._studies):
            self._todo.extend((SPINAL.name, Batch(p)) for p in self._packers[SPINAL.name].flush())
            self._compute()
        while any(one.waiting for one in self._studies):
            self._finish(self._under_way.popleft())
            self._compute()

    def _pack(self, one: ViewedSet) -> None:
        name = one.request.group.name
        full = self._packers[name].add(one, len(one.slices))
        self._todo.extend((name, Batch(parts)) for parts in full)

    def _compute(self) -> None:
        """Submit batches and keep ``ahead`` of them in flight."""
        while self._todo:
            if len(self._under_way) >= self._ahead:
                # this may change the batch size and every queue here
                self._finish(self._under_way.popleft())
                continue
            name, batch = self._todo.popleft()
            if batch.count > self._opened.batch_size:
                smaller = list(batch.cut(self._opened.batch_size))
                self._todo.extendleft((name, one) for one in reversed(smaller))
                continue
            sessions = [one.session for one in self._opened.models[name]]
            self._under_way.append(_UnderWay(name, batch, _started(sessions, batch)))

    def _finish(self, one: _UnderWay) -> None:
        try:
            outputs = [wait() for wait in one.waits]
        except (MemoryError, OutOfMemory) as error:
            self._with_smaller_batches(one, error)
            return
        for opened, of_model in zip(self._opened.models[one.name], outputs, strict=True):
            _require_numbers(opened, of_model)
        parts = self._parts[one.name]
        row = 0
        for part in one.batch.parts:
            parts.append(PartPeaks.of(part, row, outputs))
            row += int(part.of.views_between(part.start, part.stop).sum())
            if part.last:
                score = group_score(self._detectors[one.name], part, parts)
                parts.clear()
                self._take(part.of, score)

    def _take(self, scored: ViewedSet, score: GroupScore) -> None:
        """Keep the score of a set. The spinal one tells what the waiting sets show."""
        study = self._study(scored.request.study_id)
        study.scored[score.group.name] = score
        study.awaited.remove(score.group.name)
        if score.group == SPINAL and self._by_views:
            study.discs = discs_of(scored.slices, score)
            for one in study.waiting:
                self._pack(by_position(one, study.discs))
            study.waiting.clear()

    def _with_smaller_batches(self, failed: _UnderWay, error: Exception) -> None:
        """Steps 1, 2 and 4 after a lack of memory (see above)."""
        begun = (failed, *self._under_way)
        for wait in (wait for one in begun for wait in one.waits):
            with suppress(BackendError, MemoryError):
                wait()
        self._under_way.clear()
        again = [(one.name, one.batch) for one in begun]
        self._todo = deque([*again, *self._todo, *self._partly_filled()])
        self._opened.halve_batches(error)
        self._packers = self._new_packers()

    def _partly_filled(self) -> list[tuple[str, Batch]]:
        return [(name, Batch(p)) for name, one in self._packers.items() for p in one.flush()]

    def _new_packers(self) -> dict[str, Packer[ViewedSet]]:
        return {name: Packer(self._opened.batch_size) for name in self._detectors}

    @property
    def _ahead(self) -> int:
        return min(one.session.ahead for models in self._opened.models.values() for one in models)

    def _study(self, study_id: str) -> _OpenStudy:
        return next(one for one in self._studies if one.study.study_id == study_id)


@dataclass(frozen=True, slots=True)
class _UnderWay:
    name: str  # name of the group
    batch: Batch
    waits: Sequence[Wait]  # one per model


@dataclass(eq=False, slots=True)
class _OpenStudy:
    """A study whose score may still be incomplete."""

    study: Study
    awaited: set[str] = field(default_factory=set)  # names of groups
    waiting: list[SliceSet] = field(default_factory=list)  # for the spinal score
    discs: Discs | None = None  # found in the spinal score, if another set needs them
    scored: dict[str, GroupScore] = field(default_factory=dict)
    skips: list[Skip] = field(default_factory=list)
    decoding: Decoding = field(default_factory=Decoding)

    @property
    def waiting_slices(self) -> int:
        return sum(len(one.slices) for one in self.waiting)


def _started(sessions: Sequence[Session], batch: Batch) -> list[Wait]:
    """Submit a batch, one wait per model. An error for lack of memory is raised when waiting."""
    waits: list[Wait] = []
    try:
        slices, member = batch.slices, batch.member
        for session in sessions:
            waits.append(session.start(slices, member))
    except (MemoryError, OutOfMemory) as error:
        failure = OutOfMemory(str(error) or "no memory for a batch of slices")

        def fail() -> Outputs:
            raise failure

        waits.append(fail)
    return waits


def _require_numbers(opened: OpenModel, outputs: Outputs) -> None:
    if not (np.isfinite(outputs.peak).all() and np.isfinite(outputs.probability).all()):
        raise BackendError(
            f"{opened.model.files[0].name} returned values that are not numbers on "
            f"{opened.session.device}; check it with rsna-export --verify, or use --precision fp32 "
            "--device cpu"
        )
