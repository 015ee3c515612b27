"""A journal: a file of entries, each checked by a hash, and on the disk once added.

    <SHA-256 of the digest before and the text> <text: one JSON object>

The hash of a line covers all lines before it. A line cut short by a kill, and everything after a
line whose hash does not match, is not part of the journal: it is cut off when the journal is
opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from rsna_lumbar.runtime.system.atomic_files import claim, naming, sync_folder

Entry = Mapping[str, Any]


class Journal:
    """A journal open for appending by this process alone; private to its user.

    Args:
        path: path of the file; it is created if it does not exist.

    Raises:
        OSError: the file cannot be written, or another process uses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = claim(path, path)
        try:
            with naming(path):
                content = path.read_bytes()
            self.entries, length, self._digest = _read(content)
            self._cut(length)
        except BaseException:
            self.close()
            raise

    def add(self, entry: Entry) -> None:
        """Append an entry; it is on the disk on return."""
        text = json.dumps(entry, allow_nan=False)
        digest = _digest(self._digest, text)
        with naming(self.path):
            rest = memoryview(f"{digest} {text}\n".encode())
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        if not self.entries:
            sync_folder(self.path.parent)
        self._digest = digest
        self.entries.append(json.loads(text))

    def clear(self) -> None:
        """Remove all entries."""
        self.entries, self._digest = [], ""
        self._cut(0)

    def remove(self) -> None:
        """Remove the file and close; does nothing if it is already closed."""
        if self._descriptor < 0:
            return
        self.entries = []
        if os.name == "nt":
            self.close()
        self.path.unlink(missing_ok=True)
        self.close()
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Close the file and keep it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cut(self, length: int) -> None:
        with naming(self.path):
            os.ftruncate(self._descriptor, length)
            os.lseek(self._descriptor, length, os.SEEK_SET)


def _read(content: bytes) -> tuple[list[dict[str, Any]], int, str]:
    """The entries, the length of the valid part, and the last digest."""
    entries: list[dict[str, Any]] = []
    length, last = 0, ""
    for line in content.splitlines(keepends=True):
        try:
            digest, text = line.decode().rstrip("\n").split(" ", 1)
            if not line.endswith(b"\n") or digest != _digest(last, text):
                break
            entries.append(json.loads(text))
        except ValueError:
            break
        length, last = length + len(line), digest
    return entries, length, last


def _digest(before: str, text: str) -> str:
    return hashlib.sha256(f"{before} {text}".encode()).hexdigest()
