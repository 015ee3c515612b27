"""Sets in, scores out: batches of every group are open at a time, and some are under way.

    set -> filler of its group -> batch -> session -> peaks -> group score -> study score

Sets come study by study, so the first study is complete after a few batches, and what is held is a
few studies, whatever their number. Every step follows from the order of the sets alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rsna_lumbar.runtime.backends import Outputs, Wait
from rsna_lumbar.runtime.batches import Batch, Filler
from rsna_lumbar.runtime.bundle import Detector
from rsna_lumbar.runtime.discovery import Study
from rsna_lumbar.runtime.errors import BackendError
from rsna_lumbar.runtime.opened import OpenModel
from rsna_lumbar.runtime.reasons import Skip
from rsna_lumbar.runtime.scores import (
    GroupScore,
    PartPeaks,
    StudyScore,
    group_score,
    study_score,
)
from rsna_lumbar.runtime.sets import SliceSet


class Assembly:
    """Scores the sets of many studies.

    Args:
        detectors: of the bundle.
        opened: their models, by name of the group.
        batch_size: slices in a batch.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        opened: Mapping[str, Sequence[OpenModel]],
        batch_size: int,
    ) -> None:
        self._detectors = {one.group.name: one for one in detectors}
        self._opened = opened
        self._fillers = {name: Filler(batch_size) for name in self._detectors}
        self._ahead = min(one.session.ahead for models in opened.values() for one in models)
        self._under_way: deque[_UnderWay] = deque()
        self._parts: dict[str, list[PartPeaks]] = {name: [] for name in self._detectors}
        self._studies: deque[_OpenStudy] = deque()

    def begin(self, study: Study) -> None:
        """The sets that follow are of this study."""
        self._studies.append(_OpenStudy(study))

    def add(self, one: SliceSet) -> None:
        """Put in a set, and start the batches that are full with it."""
        current = self._studies[-1]
        if one.request.study_id != current.study.study_id:
            raise ValueError(f"a set of {one.request.study_id} among {current.study.study_id}'s")
        current.skips.extend(one.skips)
        current.left_out += one.left_out
        name = one.request.group.name
        if one.slices:
            current.awaited.add(name)
            self._start(name, self._fillers[name].add(one))

    def flush(self) -> None:
        """Start what is partly full: no batch is shared with what comes after."""
        for name, filler in self._fillers.items():
            self._start(name, filler.flush())

    def complete(self) -> Iterator[StudyScore]:
        """Studies whose last batch has been scored, in order."""
        while self._studies and not self._studies[0].awaited:
            one = self._studies.popleft()
            detectors = tuple(self._detectors.values())
            yield study_score(one.study, detectors, one.scored, one.skips, one.left_out)

    def finish(self) -> Iterator[StudyScore]:
        """Wait for everything; all sets must have been put in."""
        self.flush()
        while self._studies:
            yield from self.complete()
            if self._under_way:
                self._finish(self._under_way.popleft())

    def _start(self, name: str, batches: Iterator[Batch]) -> None:
        for batch in batches:
            if len(self._under_way) >= self._ahead:
                self._finish(self._under_way.popleft())
            slices, member = batch.slices, batch.member
            waits = [one.session.start(slices, member) for one in self._opened[name]]
            self._under_way.append(_UnderWay(name, batch, waits))

    def _finish(self, one: _UnderWay) -> None:
        outputs = [wait() for wait in one.waits]
        for opened, of_model in zip(self._opened[one.name], outputs, strict=True):
            _require_numbers(opened, of_model)
        parts = self._parts[one.name]
        for row, part in enumerate(one.batch.parts):
            parts.append(PartPeaks.of(part, row, outputs))
            if part.last:
                score = group_score(self._detectors[one.name], part, parts)
                self._study(part.of.request.study_id).take(one.name, score)
                parts.clear()

    def _study(self, study_id: str) -> _OpenStudy:
        return next(one for one in self._studies if one.study.study_id == study_id)


@dataclass(frozen=True, slots=True)
class _UnderWay:
    name: str  # of the group
    batch: Batch
    waits: Sequence[Wait]  # one a model


@dataclass(eq=False, slots=True)
class _OpenStudy:
    """A study of which something may still be missing."""

    study: Study
    awaited: set[str] = field(default_factory=set)  # names of groups
    scored: dict[str, GroupScore] = field(default_factory=dict)
    skips: list[Skip] = field(default_factory=list)
    left_out: int = 0

    def take(self, name: str, score: GroupScore) -> None:
        self.scored[name] = score
        self.awaited.remove(name)


def _require_numbers(opened: OpenModel, outputs: Outputs) -> None:
    if not (np.isfinite(outputs.peak).all() and np.isfinite(outputs.probability).all()):
        raise BackendError(
            f"{opened.model.files[0].name} returned values that are not numbers on "
            f"{opened.session.device}; check it with rsna-export --verify, or use --precision fp32 "
            "--device cpu"
        )
