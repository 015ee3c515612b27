"""The engines that this user built or accepted: a private list of SHA-256 hashes, one per line.

A serialized engine is executable: anyone who can change an engine and the manifest beside it can
run code as the user who opens it. A hash in the manifest detects damage, but does not prove origin.
Engines built here are therefore recorded outside the bundle, and an engine from elsewhere needs
``--trust``.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from functools import cached_property
from pathlib import Path

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.user_folders import only_mine, user_data_folder


def trust_list() -> Path:
    return user_data_folder() / "engines"


def trusted_engines() -> frozenset[str]:
    """SHA-256 of the engines that were built or accepted here; empty if there is no list.

    Raises:
        UsageError: another user could have written the list.
    """
    try:
        path = trust_list()
        with path.open(encoding="ascii", errors="replace") as stream:
            _require_private(path, os.fstat(stream.fileno()))
            return frozenset(stream.read().split())
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return frozenset()


class TrustedEngines(Container[str]):
    """The same, read when an engine is checked: a bundle without engines needs no list."""

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._known

    @cached_property
    def _known(self) -> frozenset[str]:
        return trusted_engines()


def trust_engines(hashes: Iterable[str]) -> None:
    """Add engines to the list. Lines are appended whole, so two processes can do it at once.

    Raises:
        UsageError: the list cannot be written, or another user could have written it.
    """
    new = sorted(set(hashes) - trusted_engines())
    if not new:
        return
    try:
        path = trust_list()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, "".join(f"{one}\n" for one in new).encode("ascii"))
        finally:
            os.close(descriptor)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        raise UsageError(
            f"the list of engines that were built here cannot be written ({error}); set "
            "XDG_DATA_HOME to a folder of yours"
        ) from error


def _require_private(path: Path, found: os.stat_result) -> None:
    if not only_mine(found):
        raise UsageError(
            f"{path} names the engines to trust, and others can write it; delete it, or take "
            f"the right away: chmod go-w {path}"
        )
