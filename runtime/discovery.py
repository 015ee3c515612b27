"""Folder -> studies and their series, each with the group that reads it.

Folders are looked into when a study is asked for, so that the first can be scored while the last
are still to be listed; a tree, whose headers alone say what belongs together, is indexed first.

Two layouts. **Challenge**: ``<images>/<study>/<series>/*.dcm`` where the folder of images is
``test_images`` or ``train_images`` (found from the root, from itself or from one study in it), or
any folder when a table of series is given; folders name studies and series. **Tree**: any other
folder; headers name them. Nothing here depends on the order in which a file system lists files.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rsna_lumbar.runtime.challenge_layout import images_folder, stream_challenge
from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.studies import Inventory, StudyStream
from rsna_lumbar.runtime.tables import read_series_table
from rsna_lumbar.runtime.tree_layout import Progress, stream_tree
from rsna_lumbar.runtime.walking import Walk

FOLDER, UID = "folder", "uid"  # what names studies and series


def ignore_progress(_: int) -> None:
    """The progress of a caller who does not look."""


def find_studies(
    data: Path,
    series_table: Path | None = None,
    progress: Progress = ignore_progress,
    studies: Collection[str] | None = None,
    ids: str | None = None,
) -> Inventory:
    """Find all studies and series below a folder, as :func:`stream_studies` does one by one."""
    stream = stream_studies(data, series_table, progress, studies, ids)
    return Inventory(stream.data, tuple(stream.studies), stream.strays)


def stream_studies(
    data: Path,
    series_table: Path | None = None,
    progress: Progress = ignore_progress,
    studies: Collection[str] | None = None,
    ids: str | None = None,
    own_files: Collection[Path] = (),
) -> StudyStream:
    """Find the studies below a folder; each is looked into when it is asked for.

    Args:
        data: a challenge root, its folder of images, one study, or any tree of DICOM files.
        series_table: CSV with study_id, series_id, series_description; without it the table
            beside the folder of images is used, and headers where there is none.
        progress: called with 1 for every file of a tree, all of which are looked at first.
        studies: ids of the only studies wanted; one of them that is not there counts as listed
            by a table. None takes all that there are.
        ids: ``folder`` or ``uid``: what names studies and series. None takes folders in the
            challenge's layout and UIDs in any other tree. What the layout does not offer by
            itself is read from all headers first.
        own_files: resolved paths of what the caller writes, which is not seen where it is below.

    Raises:
        DataError: no such folder, nothing in it to score, or the table cannot be used.
    """
    if not data.is_dir():
        raise DataError(f"{data} is no folder; name a folder with DICOM files")
    table = read_series_table(series_table) if series_table else None
    walk = Walk(data, frozenset(own_files))
    images = images_folder(walk, table, studies)
    if images is None:
        return stream_tree(walk, progress, studies, by_folder=ids == FOLDER)
    return stream_challenge(walk, images, table, studies, by_uid=ids == UID)
