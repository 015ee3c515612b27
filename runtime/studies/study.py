"""Records of what was found: studies and their series, and how both are named and ordered."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count, cycle, tee
from pathlib import Path

from rsna_lumbar.runtime.core.labels import Group
from rsna_lumbar.runtime.core.reasons import Skip

# Folder of images that a challenge root means: the first one that contains a requested study,
# otherwise a study of the table, otherwise the first one that exists.
IMAGE_FOLDERS = ("test_images", "train_images")
STUDIES_A_CHUNK = 32

FOLDER, UID = "folder", "uid"  # what names studies and series
# Source of the assignment of a series to a detector.
FROM_TABLE, FROM_HEADER, FROM_OTHERS = "table", "header", "other series"
FROM_CALLER = "caller"  # set by a caller of the Python API
NO_BODY_PART = "no header names a body part"  # end of ``why`` for a series without a body part


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that headers state about a series. Times in milliseconds."""

    plane: str | None
    slices: int
    rows: int
    columns: int
    spacing_mm: tuple[float, float] | None  # between rows, between columns
    gap_mm: float | None  # between neighbouring slices
    echo_ms: float | None
    repetition_ms: float | None
    inversion_ms: float | None
    description: str  # shown by --list only; never in an output of a run


@dataclass(frozen=True, slots=True)
class Series:
    """Files of one series, in natural order of names, and the group that reads it, or None."""

    study_id: str
    series_id: str
    group: Group | None
    group_from: str  # FROM_TABLE, FROM_HEADER, FROM_OTHERS or FROM_CALLER
    files: tuple[Path, ...]
    # only for files of which not all frames are read
    frames: Mapping[Path, frozenset[int]] = field(default_factory=dict)
    facts: Facts | None = None  # None if no header could be read
    why: str = ""  # the reason for the group, or for None


@dataclass(frozen=True, slots=True)
class Study:
    """The series of one study, in natural order of their ids."""

    study_id: str
    series: tuple[Series, ...]
    listed: bool  # a table asks for its rows, even if nothing was found
    skips: tuple[Skip, ...] = ()  # what was left out of it while listing

    def of(self, group: Group) -> tuple[Series, ...]:
        return tuple(series for series in self.series if series.group is group)

    @property
    def file_count(self) -> int:
        """Number of files in series that a group reads."""
        return sum(len(series.files) for series in self.series if series.group is not None)

    @property
    def without_body_part(self) -> bool:
        """Whether series are read by their headers, and no header names a body part."""
        read = [one for one in self.series if one.group and one.group_from != FROM_TABLE]
        return bool(read) and all(one.why.endswith(NO_BODY_PART) for one in read)


@dataclass(frozen=True, slots=True)
class StudyStream:
    """Studies that are read one by one, in the order of the submission's rows."""

    data: Path
    ids: tuple[str, ...]
    strays: tuple[Skip, ...]  # files that belong to no study
    studies: Iterator[Study]  # an iterator that can be used only once
    table: Path | None = None  # the table that names series kinds

    @property
    def count(self) -> int:
        return len(self.ids)

    def twice(self) -> tuple[StudyStream, StudyStream]:
        """Two streams for two consumers; studies that only one has seen are kept in memory."""
        one, other = tee(self.studies)
        return self.narrowed(one), self.narrowed(other)

    def narrowed(self, studies: Iterator[Study]) -> StudyStream:
        """The same stream, of which these studies are still to be read."""
        return replace(self, studies=studies)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All studies that were found, in the order of the submission's rows."""

    data: Path
    studies: tuple[Study, ...]
    strays: tuple[Skip, ...]  # files that belong to no study

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(study.study_id for study in self.studies)

    def stream(self) -> StudyStream:
        """The same studies as a stream, to be used only once."""
        return StudyStream(self.data, self.ids, self.strays, iter(self.studies))

    @property
    def skips(self) -> tuple[Skip, ...]:
        """Everything that was left out."""
        return (*self.strays, *(skip for study in self.studies for skip in study.skips))

    @property
    def file_count(self) -> int:
        """Number of files in series that a group reads."""
        return sum(study.file_count for study in self.studies)


def chunk_ends(studies_a_chunk: int = STUDIES_A_CHUNK) -> Iterator[bool]:
    """For one study after the other: whether a chunk ends with it.

    A batch never holds slices of two chunks, and outputs are journaled at the end of each chunk.
    """
    return cycle([*[False] * (studies_a_chunk - 1), True])


WITHOUT_UID = "no-uid-"


def without_uid(folder: str) -> str:
    """The id of a study or series without a UID; not its folder, which may be a person's name."""
    return f"{WITHOUT_UID}{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"


def unused(name: str, taken: Container[str]) -> str:
    """The name if it is not taken, or else with ~2, ~3 and so on."""
    candidates = chain([name], (f"{name}~{number}" for number in count(2)))
    return next(one for one in candidates if one not in taken)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``9.dcm`` before ``10.dcm``; it is unique for every name."""
    parts = (
        (0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part)
        for part in re.split(r"([0-9]+)", name)
        if part
    )
    return (*parts, (-1, 0, name))  # lowest: "a" comes before "a1"


def relative(path: Path, data: Path) -> str:
    """A path for reports: relative to the data folder, with forward slashes."""
    return Path(os.path.relpath(path, data)).as_posix()


def in_row_order(study_ids: Iterable[str]) -> list[str]:
    """Rows are sorted as text, and "_" comes after the digits: "12_..." comes before "1_..."."""
    return sorted(study_ids, key=lambda name: name + "_")
