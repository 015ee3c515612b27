"""Putting a bundle in place: model files aside first, then in, then the manifest over the old one.

A reader sees the old bundle or the new one at any moment, and a failed or killed export leaves the
old one as it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rsna_lumbar.runtime.bundle.manifest import write_manifest
from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.system.atomic_files import sole_user

BUILD_LOG = "build.log"  # what engine builders said
ASIDE = ".rsna-export"  # inside the bundle's folder, while it is being made


def write_through(path: Path, content: bytes) -> None:
    """Write a file down to the disk."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def aside_folder(folder: Path) -> Iterator[Path]:
    """A folder inside the bundle's, for this process alone, empty at first and gone afterwards.

    Its name is always the same, so that what a killed export left in it goes as well. Folders that
    had to be made go again where the export fails.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    aside = folder / ASIDE
    aside.mkdir(parents=True, exist_ok=True)
    try:
        with sole_user(aside):
            for path in aside.iterdir():
                path.unlink()
            try:
                yield aside
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except BaseException:
        for path in made:
            with suppress(OSError):  # not empty: something else has come into it
                path.rmdir()
        raise


def move_in(aside: Path, folder: Path, bundle: Bundle) -> None:
    """Put the model files in place, then the manifest; take them out again where that fails.

    An interrupt (no Exception) leaves unreferenced files at worst, which the next export removes.
    """
    files = {file.name for _, model in bundle.models for file in model.files}
    new = [file for file in files if (aside / file).exists()]
    moved = [folder / file for file in new if not (folder / file).exists()]
    try:
        for file in new:
            os.replace(aside / file, folder / file)
        if (aside / BUILD_LOG).exists():
            with (folder / BUILD_LOG).open("ab") as log:  # behind what built the other engines
                log.write((aside / BUILD_LOG).read_bytes())
        write_manifest(folder, bundle)
    except Exception:
        for place in moved:
            place.unlink(missing_ok=True)
        raise
