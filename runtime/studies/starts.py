"""The folders and files that a command line names as DATA; each is searched only once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rsna_lumbar.runtime.core.errors import DataError


def distinct(starts: Sequence[Path]) -> list[Path]:
    """Several starts as absolute paths, without those that equal or lie inside another.

    A single start stays as given. Links keep their names; their targets are compared.
    """
    if len(starts) < 2:
        return list(starts)
    by_place: dict[Path, Path] = {}
    for start in starts:
        by_place.setdefault(start.resolve(), Path(os.path.abspath(start)))
    return [
        start
        for place, start in by_place.items()
        if not any(above in by_place for above in place.parents)
    ]


def common_folder(starts: Sequence[Path]) -> Path:
    """The folder that file names are relative to; several starts must be absolute.

    Raises:
        DataError: the starts have no common folder.
    """
    if len(starts) == 1:
        return starts[0] if starts[0].is_dir() else starts[0].parent
    try:
        return Path(os.path.commonpath(starts))
    except ValueError:  # Windows: on different drives
        raise DataError("DATA lies on several drives; score them one after the other") from None
