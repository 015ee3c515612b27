"""Folder -> studies and their series, each with the group that reads it.

A study's folder is read when the study is requested, so that the first study can be scored before
the last is listed. A tree is indexed first, because only headers say which files belong together.

Two layouts. **Challenge**: ``<images>/<study>/<series>/*.dcm`` if the folder of images is named
``test_images`` or ``train_images`` (found from the root, from itself or from studies in it);
folders name studies and series. **Tree**: any other folder, or a table that names no study by its
folder; headers name them. The result never depends on the order in which a file system lists files.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from os.path import abspath, realpath
from pathlib import Path

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.studies.challenge import (
    Images,
    images_folder,
    names_folders,
    stream_challenge,
)
from rsna_lumbar.runtime.studies.scan import Walk
from rsna_lumbar.runtime.studies.starts import common_folder, distinct
from rsna_lumbar.runtime.studies.study import UID, Inventory, StudyStream
from rsna_lumbar.runtime.studies.tables import read_series_table
from rsna_lumbar.runtime.studies.tree import Progress, stream_tree


def ignore_progress(_: int) -> None:
    """The progress function of a caller who does not need progress."""


def find_studies(
    data: Path | Sequence[Path],
    series_table: Path | None = None,
    progress: Progress = ignore_progress,
    studies: Collection[str] | None = None,
    ids: str | None = None,
) -> Inventory:
    """Find all studies and series in a folder; :func:`stream_studies` finds them one by one.

    Raises:
        DataError: the folder does not exist or has nothing to score, or the table cannot be used.
    """
    stream = stream_studies(data, series_table, progress, studies, ids)
    if not stream.ids:
        raise DataError(nothing_to_score(stream))
    return Inventory(stream.data, tuple(stream.studies), stream.strays)


def nothing_to_score(found: StudyStream) -> str:
    """A one-line message for a folder without a study."""
    return f"{found.data} holds no MR image ({len(found.strays)} other files); nothing to score"


def stream_studies(
    data: Path | Sequence[Path],
    series_table: Path | None = None,
    progress: Progress = ignore_progress,
    studies: Collection[str] | None = None,
    ids: str | None = None,
    own_files: Collection[Path] = (),
) -> StudyStream:
    """Find studies; each is read when it is requested. There may be none.

    Args:
        data: a challenge root, its folder of images, one study, any tree of DICOM files, a file,
            or several of these; data that is named twice, or is inside other data, is found once.
        series_table: CSV with study_id, series_id, series_description, by folders or UIDs; without
            it the table beside the folder of images is used, or headers if there is no table.
        progress: called with 1 for every file of a tree, all of which are read first.
        studies: ids of the only studies wanted; one that does not exist is treated as listed by
            a table. None takes all studies.
        ids: ``folder`` or ``uid``: what names studies and series. None takes folders in the
            challenge's layout, otherwise the ids of the table, otherwise UIDs. If the layout does
            not give these ids, all headers are read first.
        own_files: resolved paths of the caller's outputs, which are ignored if found in the data.

    Raises:
        DataError: the folder does not exist, none of the requested studies exists, or the table
            cannot be used.
    """
    given = [data] if isinstance(data, Path) else list(data)
    for start in given:
        if not start.exists():
            raise DataError(f"{start} is not there; name a folder or a file of DICOM")
    table = read_series_table(series_table) if series_table else None
    starts = distinct(given)
    walk = Walk(common_folder(starts), frozenset(own_files), tuple(starts))
    images = images_folder(walk, starts, table, studies)
    if images is not None and not _of_images(given, images):
        images = None
    if images is not None and table is not None and not names_folders(images, table, walk):
        starts = starts if images.only else [images.folder]  # the table names studies by UIDs
        walk, images = replace(walk, starts=tuple(starts)), None
    if images is None:
        return stream_tree(walk, starts, progress, table or {}, studies, ids=ids)
    return stream_challenge(walk, images, table, studies, by_uid=ids == UID)


def _of_images(given: Sequence[Path], images: Images) -> bool:
    """Whether all named data is inside the layout, even data that is inside other data."""
    return all(
        any(_holds(Path(at(start)), Path(at(images.folder))) for at in (abspath, realpath))
        for start in given
    )


def _holds(one: Path, other: Path) -> bool:
    """Whether one path is, or is inside, the other."""
    return one.is_relative_to(other) or other.is_relative_to(one)
