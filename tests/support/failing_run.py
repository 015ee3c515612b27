"""``rsna-run`` in which something fails that nobody thought of, and quotes a file and its name.

    python failing_run.py WHERE WORDS...

WHERE: a key of ``WAYS``.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from rsna_lumbar.runtime.cli import main


def fail(path: Path) -> NoReturn:
    header = path.read_bytes()[:4000]
    try:
        raise ValueError(f"{header!r} of {path}")
    except ValueError as error:
        raise RuntimeError(f"{path}: {header!r}") from error


# Each module is imported where it is changed, before others take names from it.


def in_headers() -> None:
    from rsna_lumbar.runtime.dicom import header

    header.read_header = fail


def in_assembly() -> None:
    from rsna_lumbar.runtime.inference.scheduler import Assembly

    Assembly.add = lambda _, one: fail(one.slices[0].file)  # type: ignore[method-assign]


def in_listing() -> None:
    """A disk that fails, as an error that goes through."""
    from rsna_lumbar.runtime.studies.scan import Walk

    really_list = Walk.listing

    def listing(self: Walk, folder: Path, skips: list[Any]) -> Any:
        if "series" in str(folder):
            raise PermissionError(errno.EIO, "disk failed", str(folder))
        return really_list(self, folder, skips)

    Walk.listing = listing  # type: ignore[method-assign]


WAYS: Mapping[str, Callable[[], None]] = {
    "headers": in_headers,
    "assembly": in_assembly,
    "listing": in_listing,
}

if __name__ == "__main__":
    where, *words = sys.argv[1:]
    WAYS[where]()
    main(words)
