"""A journal: a file of entries, each checked by a hash, and on the disk once added.

    <SHA-256 of the digest before and the text> <text: one JSON object>

The hash of a line covers all lines before it. A line cut short by a kill, and everything after a
line whose hash does not match, is not part of the journal: it is cut off when the journal is
opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.system.atomic_files import OwnFile, naming, sync_folder
from rsna_lumbar.runtime.system.closing import Closing

Entry = Mapping[str, Any]


class Journal(Closing):
    """A journal open for appending by this process alone; a new file is made if there is none.

    Raises:
        OSError: the file cannot be written, or another process uses it; from every method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = OwnFile(path, path)
        try:
            with naming(path):
                content = path.read_bytes()
            self.entries, length, self._digest = _read(content)
            self._file.cut(length)
        except BaseException:
            self.close()
            raise

    def add(self, entry: Entry) -> None:
        """Append an entry; it is on the disk on return."""
        text = json.dumps(entry, allow_nan=False)
        digest = _digest(self._digest, text)
        self._file.write(f"{digest} {text}\n".encode())
        self._file.sync()
        if not self.entries:
            sync_folder(self.path.parent)
        self._digest = digest
        self.entries.append(json.loads(text))

    def clear(self) -> None:
        """Remove all entries."""
        self.entries, self._digest = [], ""
        self._file.cut(0)

    def remove(self) -> None:
        """Remove the file and close; does nothing if it is already closed."""
        if self._file.descriptor >= 0:
            self.entries = []
            self._file.discard()
            sync_folder(self.path.parent)

    def close(self) -> None:
        """Close the file and keep it."""
        self._file.close()


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
