"""What a run is to write, and what it must not write over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rsna_lumbar.runtime.errors import UsageError
from rsna_lumbar.runtime.files import aside_of
from rsna_lumbar.runtime.naming import HASH, key_path
from rsna_lumbar.runtime.results import EVIDENCE, KEY, RUN_MANIFEST, SUBMISSION, journal_of

if TYPE_CHECKING:
    from rsna_lumbar.runtime.run import Request
    from rsna_lumbar.runtime.studies import StudyStream

PREFIX = slice(128, 132)  # of a DICOM file (PS3.10 7.1)


def targets_of(request: Request) -> dict[str, Path]:
    """Name of an output -> its path.

    Raises:
        UsageError: before any work, where it cannot or must not be written.
    """
    targets = {SUBMISSION: request.output, RUN_MANIFEST: manifest_path(request.output)}
    if request.evidence:
        targets[EVIDENCE] = request.evidence
    if request.ids == HASH:
        targets[KEY] = key_path(request.output)
    taken = {path.resolve() for path in (request.series, request.studies) if path}
    taken.add(journal_of(request.output).resolve())
    for name, path in targets.items():
        own = {path.resolve(), aside_of(path).resolve()}
        if own & taken:
            raise UsageError(f"{name} {path} is another file of this run; name another")
        if path.resolve().is_relative_to(request.bundle.resolve()):
            raise UsageError(f"{name} {path} lies in the bundle; name another")
        _require_writable(name, path)
        taken |= own
    return targets


def require_no_input(targets: Mapping[str, Path], found: StudyStream) -> None:
    """Refuse what was found to be an input.

    Raises:
        UsageError: the table beside the images is to be written over.
    """
    for name, path in targets.items():
        if found.table and path.resolve() == found.table.resolve():
            raise UsageError(f"{name} {path} is the table of this run's series; name another")


def manifest_path(output: Path) -> Path:
    """Where the run manifest of a submission stands."""
    return output.with_suffix(".run.json")


def _require_writable(name: str, path: Path) -> None:
    if path.exists() and not path.is_file():
        raise UsageError(f"{name} {path} is no regular file; name another")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} of {name} is not there; make it first")
    if path.exists():
        with path.open("rb") as stream:
            if stream.read(PREFIX.stop)[PREFIX] == b"DICM":
                raise UsageError(f"{name} {path} is a DICOM file; name another")
