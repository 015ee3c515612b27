"""The user's own folders, as each system has them: ``$XDG_CACHE_HOME``, ``%LOCALAPPDATA%``, ..."""

from __future__ import annotations

from pathlib import Path

NAME = "rsna-lumbar"


def user_cache_folder() -> Path:
    """For what can be made again: compiled models.

    Raises:
        RuntimeError: the user has no home.
    """
    from platformdirs import user_cache_path

    return _absolute(user_cache_path(NAME, appauthor=False))


def user_data_folder() -> Path:
    """For what the user decided: which engines are trusted.

    Raises:
        RuntimeError: the user has no home.
    """
    from platformdirs import user_data_path

    return _absolute(user_data_path(NAME, appauthor=False))


def _absolute(folder: Path) -> Path:
    if not folder.is_absolute():  # as it was written into a variable, or "~" without a home
        raise RuntimeError(f"{folder} is no absolute path")
    return folder
