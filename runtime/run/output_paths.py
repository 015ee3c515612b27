"""The paths that a run writes, and the paths that it must not overwrite."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.run.output_files import EVIDENCE, KEY, RUN_MANIFEST, SUBMISSION, journal_of
from rsna_lumbar.runtime.run.pseudonyms import HASH, key_path
from rsna_lumbar.runtime.system.atomic_files import aside_of

if TYPE_CHECKING:
    from rsna_lumbar.runtime.run.request import Request
    from rsna_lumbar.runtime.studies.study import StudyStream

PREFIX = slice(128, 132)  # position in a DICOM file (PS3.10 7.1)
GZIP = b"\x1f\x8b"


def targets_of(request: Request) -> dict[str, Path]:
    """Name of an output -> its path.

    Raises:
        UsageError: an output cannot or must not be written; raised before any work.
    """
    targets = {SUBMISSION: request.output, RUN_MANIFEST: manifest_path(request.output)}
    if request.evidence:
        targets[EVIDENCE] = request.evidence
    if request.ids == HASH:
        targets[KEY] = key_path(request.output)
    taken = {path.resolve() for path in (request.series, request.studies) if path}
    taken.add(journal_of(request.output).resolve())
    for name, path in targets.items():
        own = _own_of(name, path, taken)
        if path.resolve().is_relative_to(request.bundle.resolve()):
            raise UsageError(f"{name} {path} lies in the bundle; name another")
        require_writable(name, path)
        taken |= own
    return targets


def own_files_of_list(output: Path, *tables: Path | None) -> frozenset[Path]:
    """Resolved paths of the files that ``--list`` writes; ``tables`` are those it reads.

    Raises:
        UsageError: the CSV cannot or must not be written; raised before any work.
    """
    own = _own_of(SUBMISSION, output, {path.resolve() for path in tables if path})
    require_writable(SUBMISSION, output)
    return frozenset(own)


def require_no_input(targets: Mapping[str, Path], found: StudyStream) -> None:
    """Check that no output is an input that was found.

    Raises:
        UsageError: an output would overwrite the table beside the images.
    """
    for name, path in targets.items():
        if found.table and path.resolve() == found.table.resolve():
            raise UsageError(f"{name} {path} is the table of this run's series; name another")


def manifest_path(output: Path) -> Path:
    return output.with_suffix(".run.json")


def _own_of(name: str, path: Path, taken: Set[Path]) -> set[Path]:
    """The final path of an output, and its path while it is written."""
    own = {path.resolve(), aside_of(path).resolve()}
    if own & taken:
        raise UsageError(f"{name} {path} is another file of this run; name another")
    return own


def require_writable(name: str, path: Path) -> None:
    """Check that a file can be written, and that it would not overwrite a file that is not text.

    Raises:
        UsageError: it cannot; the message says why.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{name} {path} is no regular file; name another")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} of {name} is not there; make it first")
    if path.exists():
        with path.open("rb") as stream:
            start = stream.read(PREFIX.stop)
        if start[PREFIX] == b"DICM":
            raise UsageError(f"{name} {path} is a DICOM file; name another")
        if b"\0" in start or start.startswith(GZIP):  # a slice without preamble, or an archive
            raise UsageError(f"{name} {path} holds no text, so it is kept; name another")
