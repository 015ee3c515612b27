"""The user's folders on each system: ``$XDG_CACHE_HOME``, ``%LOCALAPPDATA%``, ..."""

from __future__ import annotations

from pathlib import Path

NAME = "rsna-lumbar"


def user_cache_folder() -> Path:
    """Folder for files that can be made again: compiled models.

    Raises:
        RuntimeError: the user has no home folder.
    """
    from platformdirs import user_cache_path

    return _absolute(user_cache_path(NAME, appauthor=False))


def user_data_folder() -> Path:
    """Folder for the user's decisions: which engines are trusted.

    Raises:
        RuntimeError: the user has no home folder.
    """
    from platformdirs import user_data_path

    return _absolute(user_data_path(NAME, appauthor=False))


def _absolute(folder: Path) -> Path:
    if not folder.is_absolute():  # from a variable, or "~" without a home folder
        raise RuntimeError(f"{folder} is no absolute path")
    return folder
