"""Writing a file so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TextIO


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file written aside in the same folder.

    Leaving the context flushes to disk and renames over ``path``; leaving it by an exception
    removes what was written and keeps the old file. What a killed process leaves aside is named
    ``.<name>.<anything>``.
    """
    try:
        descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:  # name the file that was asked for, not the one aside
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(aside, 0o666 & ~_umask())
        os.replace(aside, path)
    finally:
        Path(aside).unlink(missing_ok=True)


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file with Unix line ends, written as :func:`atomic_file` does."""
    with atomic_file(path) as raw:
        stream = TextIOWrapper(raw, encoding="utf-8", newline="\n")
        try:
            yield stream
        finally:
            stream.detach()  # flushes, and leaves closing to atomic_file


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file, text as UTF-8, as :func:`atomic_file` does."""
    with atomic_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
