"""Writing a file so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TextIO


class AtomicText:
    """A UTF-8 text file written aside in the same folder; a context manager.

    Leaving the context flushes to disk and renames over ``path``; leaving it by an exception
    removes what was written and keeps the old file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> TextIO:
        try:
            descriptor, self._aside = tempfile.mkstemp(
                dir=self._path.parent, prefix=f".{self._path.name}."
            )
        except OSError as error:  # name the file that was asked for, not the one aside
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")
        return self._stream

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._stream.flush()
                os.fsync(self._stream.fileno())
            self._stream.close()
            if kind is None:
                os.chmod(self._aside, 0o666 & ~_umask())
                os.replace(self._aside, self._path)
        finally:
            Path(self._aside).unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace a text file as :class:`AtomicText` does."""
    with AtomicText(path) as stream:
        stream.write(text)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
