"""Names of studies, series and files in everything that a run writes or prints.

Inside a run, names stay as found: folders, files, UIDs. When a name is written, it goes through
:class:`Names`, which keeps it, or through :class:`Pseudonyms`, which hashes it with a secret. The
secret and the original names are in the key, a private file beside the submission.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rsna_lumbar.runtime.core.csv_cells import csv_line
from rsna_lumbar.runtime.core.errors import DataError, LumbarError
from rsna_lumbar.runtime.core.reasons import Skip
from rsna_lumbar.runtime.studies.starts import common_folder, distinct
from rsna_lumbar.runtime.studies.study import IMAGE_FOLDERS

HASH = "hash"  # value of --ids
SECRET = "secret"  # stands in the first line of a key in place of a pseudonym
SECRET_BYTES = 32
DIGITS = 20  # 80 bits: among a million names, two are equal with a probability of 1e-12


class Names:
    """Keeps names as they are."""

    def __call__(self, name: str) -> str:
        """The name of a study, series, file or folder in the outputs."""
        return name

    def skip(self, skip: Skip) -> Skip:
        """The skip with its subject's name in the outputs."""
        return replace(skip, what=self(skip.what))

    def key_lines(self) -> str:
        """Key to the names that are new since the last call, as CSV; empty without pseudonyms."""
        return ""


class Pseudonyms(Names):
    """Hashes names with a secret (HMAC-SHA-256); the same secret gives the same pseudonyms.

    ``key`` is from :func:`read_key`, whose secret and names are reused; empty for a new secret.
    """

    def __init__(self, key: str = "") -> None:
        rows = [row for row in csv.reader(io.StringIO(key, newline=""))]
        secrets = [bytes.fromhex(value) for name, value in rows if name == SECRET]
        self._secret = secrets[0] if secrets else os.urandom(SECRET_BYTES)
        self._known = {name for name, _ in rows}
        self._new = [] if secrets else [(SECRET, self._secret.hex())]

    def __call__(self, name: str) -> str:
        content = name.encode(errors="surrogateescape")
        pseudonym = hmac.new(self._secret, content, hashlib.sha256).hexdigest()[:DIGITS]
        if pseudonym not in self._known:
            self._known.add(pseudonym)
            self._new.append((pseudonym, name))
        return pseudonym

    def key_lines(self) -> str:
        new, self._new = self._new, []
        return "".join(f"{csv_line(row)}\n" for row in new)


def key_path(output: Path) -> Path:
    return output.with_suffix(".ids.csv")


def read_key(path: Path) -> str:
    """Read an earlier key, to reuse its pseudonyms; empty if there is none.

    Raises:
        DataError: it is damaged; a new secret would silently change all names.
    """
    if not path.exists():
        return ""
    try:
        key = path.read_bytes().decode()
        rows = list(csv.reader(io.StringIO(key, newline=""), strict=True))
        whole = not rows or (rows[0][0] == SECRET and len(bytes.fromhex(rows[0][1])) > 0)
    except (IndexError, ValueError, csv.Error):
        whole = False
    if not whole or any(len(row) != 2 for row in rows):
        raise DataError(
            f"{path} is no whole key of --ids hash; restore it, or move it away for new pseudonyms"
        )
    return key if key.endswith("\n") or not key else f"{key}\n"


def without_paths(text: str, hidden: Mapping[str, Path | None]) -> str:
    """Replace paths in a message, as given and as resolved; ``hidden`` is word -> path."""
    words = {
        shown: instead
        for word, path in hidden.items()
        if path is not None
        for shown, instead in _spellings(word, path)
    }
    for shown in sorted(words, key=len, reverse=True):
        text = re.sub(rf"(?<![\w./-]){re.escape(shown)}(?![\w.-])", words[shown], text)
    return text


@contextmanager
def paths_hidden(data: Sequence[Path], series: Path | None, studies: Path | None) -> Iterator[None]:
    """Remove input paths from errors, because their folders may have patients' names."""
    hidden = {"DATA": data[0]}
    if len(data) > 1:
        numbered = {f"DATA {number}": path for number, path in enumerate(data, start=1)}
        hidden = {"DATA": common_folder(distinct(data)), **numbered}
    words = {**hidden, "--series": series, "--studies": studies}
    try:
        yield
    except LumbarError as error:
        raise type(error)(without_paths(str(error), words)) from None
    except OSError as error:
        where = without_paths(os.fsdecode(error.filename or "system"), words)
        inside = where.startswith(tuple(f"{word}/" for word in hidden)) and ".." not in where
        place = "a file or folder below DATA" if inside else where
        raise DataError(f"{place}: {error.strerror}") from None


def _spellings(word: str, path: Path) -> Iterator[tuple[str, str]]:
    """A path, and for a folder of images or a study in one, the folders above it."""
    if path.name:
        yield str(path), word
    for real in (path.absolute(), Path(os.path.abspath(path)), path.resolve()):
        yield str(real), word
        for depth, one in enumerate((real, real.parent), start=1):
            if one.name in IMAGE_FOLDERS:
                yield str(one.parent), word + "/.." * depth
