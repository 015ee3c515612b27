"""Put a bundle in place: model files in a private folder first, then moved, then the manifest.

At any moment a reader sees the old bundle or the new one. A failed or killed export leaves the old
one as it was.
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

BUILD_LOG = "build.log"  # messages of engine builders
ASIDE = ".rsna-export"  # in the bundle's folder, while the bundle is being made


@contextmanager
def aside_folder(folder: Path) -> Iterator[Path]:
    """An empty folder in the bundle's folder, for this process alone, and removed afterwards.

    Its name is always the same, so the leftovers of a killed export are removed too. If the export
    fails, folders that were made for it are removed.
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
            with suppress(OSError):  # not empty: it contains something else by now
                path.rmdir()
        raise


def move_in(aside: Path, folder: Path, bundle: Bundle) -> None:
    """Move the model files in, then write the manifest; undo the moves if that fails.

    An interrupt (which is no Exception) may leave unreferenced files, which the next export
    removes.
    """
    files = {file.name for _, model in bundle.models for file in model.files}
    new = [file for file in files if (aside / file).exists()]
    moved = [folder / file for file in new if not (folder / file).exists()]
    try:
        for file in new:
            os.replace(aside / file, folder / file)
        if (aside / BUILD_LOG).exists():
            with (folder / BUILD_LOG).open("ab") as log:  # after those of earlier builds
                log.write((aside / BUILD_LOG).read_bytes())
        write_manifest(folder, bundle)
    except Exception:
        for place in moved:
            place.unlink(missing_ok=True)
        raise
