"""What a resumed run must have in common with the one that was interrupted."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsna_lumbar.runtime.bundle import MANIFEST, sha256_of
from rsna_lumbar.runtime.errors import UsageError
from rsna_lumbar.runtime.machine import this_machine
from rsna_lumbar.runtime.naming import Names
from rsna_lumbar.runtime.record import LIBRARIES
from rsna_lumbar.runtime.studies import Study, StudyStream, relative
from rsna_lumbar.runtime.versions import versions_of

if TYPE_CHECKING:
    from rsna_lumbar.runtime.open_bundle import OpenBundle
    from rsna_lumbar.runtime.run import Request


def identity(
    request: Request, opened: OpenBundle, found: StudyStream, threads: int, names: Names
) -> dict[str, Any]:
    """Everything that the bytes of a run follow from, but the files of its studies.

    How many processes decode is none of it.
    """
    versions = {**versions_of(LIBRARIES), **this_machine().versions}
    return {
        "the bundle": sha256_of(request.bundle / MANIFEST),
        "the variant": str(opened.candidate.variant),
        "the device": this_machine().describe(opened.device),
        "--batch-size": request.batch_size,
        "the number of threads": threads,
        "--slices": request.slices,
        "--evidence": str(request.evidence.resolve()) if request.evidence else None,
        "--ids": request.ids,
        "DATA": names(str(request.data.resolve())),
        "the table of series": sha256_of(request.series) if request.series else None,
        "the list of studies": f"{found.count} studies, {_digest(found.ids)}",
        "the software": " ".join(f"{name} {version}" for name, version in versions.items()),
    }


def left_to_do(
    found: StudyStream, chunks: Sequence[Mapping[str, Any]], names: Names
) -> tuple[StudyStream, deque[tuple[str, str]]]:
    """The studies after those of finished chunks; each is stamped when it is looked into.

    Args:
        found: all studies, of which the first are gone through.
        chunks: of the interrupted run.
        names: of studies outside.

    Returns:
        The studies, and id and stamp of each that was looked into, which is before it is decoded.

    Raises:
        UsageError: a study that was done is no longer what it was.
    """
    for chunk in chunks:
        for study_id, before in chunk["studies"]:
            study = next(found.studies, None)
            now = study and (names(study.study_id), stamp(study, found.data))
            if now != (study_id, before):
                raise UsageError(
                    f"--resume: files of study {study_id} changed since the run was interrupted; "
                    "start again without --resume, once the journal is removed"
                )
    stamps: deque[tuple[str, str]] = deque()
    return StudyStream(found.data, found.ids, found.strays, _stamped(found, stamps)), stamps


def stamp(study: Study, data: Path) -> str:
    """SHA-256 over path, size and modification time of each file of a study."""
    return _digest(
        f"{relative(path, data)}|{_size_and_time(path)}"
        for series in study.series
        for path in series.files
    )


def _stamped(found: StudyStream, stamps: deque[tuple[str, str]]) -> Iterator[Study]:
    for study in found.studies:
        stamps.append((study.study_id, stamp(study, found.data)))
        yield study


def _size_and_time(path: Path) -> str:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.strerror or "unreadable"
    return f"{found.st_size}|{found.st_mtime_ns}"


def _digest(texts: Iterator[str] | Sequence[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode(errors="surrogateescape") + b"\n")
    return found.hexdigest()
