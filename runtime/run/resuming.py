"""What must be the same in an interrupted run and the run that resumes it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.dicom.archives import archive_of
from rsna_lumbar.runtime.run.fingerprint import digest
from rsna_lumbar.runtime.run.output_files import Results
from rsna_lumbar.runtime.run.pseudonyms import Names
from rsna_lumbar.runtime.studies.study import Study, StudyStream, relative


def left_to_do(
    found: StudyStream, results: Results, names: Names
) -> tuple[StudyStream, deque[tuple[str, str]]]:
    """The studies after those of finished chunks; each is stamped when it is read.

    Returns:
        The studies; and id and stamp of each study that was read, added before it is decoded.

    Raises:
        UsageError: a finished study has changed.
    """
    for chunk in results.chunks:
        for study_id, before in chunk["studies"]:
            study = next(found.studies, None)
            now = study and (names(study.study_id), stamp(study, found.data))
            if now != (study_id, before):
                raise UsageError(
                    f"--resume: files of study {study_id} changed since the run was interrupted; "
                    f"remove {results.journal_path} to start again"
                )
    stamps: deque[tuple[str, str]] = deque()
    return found.narrowed(_stamped(found, stamps)), stamps


def stamp(study: Study, data: Path) -> str:
    """SHA-256 over series, detector, path, size and modification time of each file of a study."""
    return digest(
        f"{series.series_id}|{series.group and series.group.name}|{relative(path, data)}|"
        f"{_size_and_time(path)}"
        for series in study.series
        for path in series.files
    )


def _stamped(found: StudyStream, stamps: deque[tuple[str, str]]) -> Iterator[Study]:
    for study in found.studies:
        stamps.append((study.study_id, stamp(study, found.data)))
        yield study


def _size_and_time(path: Path) -> str:
    """Size and modification time; for a member of a zip archive, those of the archive."""
    try:
        found = os.stat(path)
    except OSError as error:
        archive = archive_of(path)
        if archive is None:
            return error.strerror or "unreadable"
        return _size_and_time(archive)
    return f"{found.st_size}|{found.st_mtime_ns}"
