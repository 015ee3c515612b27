"""The user's folders on each system: ``$XDG_CACHE_HOME``, ``%LOCALAPPDATA%``, ..."""

from __future__ import annotations

import os
import stat
from pathlib import Path

NAME = "rsna-lumbar"


def user_cache_folder() -> Path:
    """Folder for files that can be made again: compiled models.

    Raises:
        RuntimeError: the user has no home folder.
    """
    from platformdirs import user_cache_path

    return _folder("XDG_CACHE_HOME", user_cache_path(NAME, appauthor=False))


def user_data_folder() -> Path:
    """Folder for the user's decisions: which engines are trusted.

    Raises:
        RuntimeError: the user has no home folder.
    """
    from platformdirs import user_data_path

    return _folder("XDG_DATA_HOME", user_data_path(NAME, appauthor=False))


def only_mine(found: os.stat_result) -> bool:
    """Whether no other user can have written a file or folder; always true on Windows."""
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not others)


def _folder(variable: str, usual: Path) -> Path:
    """Below the variable, on every system, or where the system has such folders."""
    asked = os.environ.get(variable)
    folder = Path(asked, NAME) if asked else usual
    if not folder.is_absolute():  # from a variable, or "~" without a home folder
        raise RuntimeError(f"{folder} is no absolute path")
    return folder
