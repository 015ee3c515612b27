"""Scores -> rows, evidence, counts and journal, study by study."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rsna_lumbar.runtime.inference.loaded_bundle import OpenBundle
from rsna_lumbar.runtime.inference.scores import StudyScore
from rsna_lumbar.runtime.run.manifest import RunRecord, Tally
from rsna_lumbar.runtime.run.output_files import EVIDENCE, KEY, SUBMISSION, Results
from rsna_lumbar.runtime.run.pseudonyms import Names
from rsna_lumbar.runtime.run.submission import (
    evidence_lines,
    study_table,
    submission_header,
    submission_lines,
)
from rsna_lumbar.runtime.studies.study import StudyStream, chunk_ends
from rsna_lumbar.runtime.system.entry_point import echo


@dataclass(eq=False, slots=True)
class Writer:
    """Writes studies in order; a chunk is journaled when its last study is written."""

    found: StudyStream
    results: Results
    names: Names
    record: RunRecord
    stamps: deque[tuple[str, str]]  # id and stamp of each study still to be written
    tables: bool  # also print a table for each study
    strict: bool  # stop after the first study with input that could not be used
    studies_a_chunk: int
    tally: Tally = field(default_factory=Tally)  # of the current chunk
    written: list[tuple[str, str]] = field(default_factory=list)  # studies of the current chunk

    def write(
        self, scores: Iterable[StudyScore], opened: OpenBundle, step: Callable[[int], object]
    ) -> None:
        """Write the studies after those of finished chunks; ``step`` is called with 1 for each.

        The batches of ``opened`` may become smaller meanwhile.
        """
        for record in self.results.take_records():
            self.record.total.add(Tally.from_json(record))
        if not self.results.resumed:
            self.results.write(SUBMISSION, submission_header())
        if self.strict and not self.record.complete:
            return
        for score, ends_chunk in zip(scores, chunk_ends(self.studies_a_chunk), strict=False):
            self._write(score)
            if self.strict and not all(skip.harmless for skip in score.skips):
                break
            if ends_chunk:
                self.results.end_chunk(
                    self.written, opened.batch_size, opened.note, self.tally.as_json()
                )
                self._count()
            step(1)
        self._count()

    def _write(self, score: StudyScore) -> None:
        self.results.write(SUBMISSION, submission_lines(score, self.names))
        if EVIDENCE in self.results.targets:
            self.results.write(EVIDENCE, evidence_lines(score, self.found.data, self.names))
        if self.tables:
            echo(study_table(score, self.names) + "\n")
        self.tally.add(Tally.of(score, self.names))
        study_id, stamp = self.stamps.popleft()
        self.written.append((self.names(study_id), stamp))
        if KEY in self.results.targets:
            self.results.write(KEY, self.names.key_lines())

    def _count(self) -> None:
        self.record.total.add(self.tally)
        self.tally, self.written = Tally(), []
