"""Series -> sets of squares, decoded ahead, in a fixed order.

A **set** is the squares of one study that one group reads. They are ordered series by series.
Inside a series they are ordered by position in the patient, never by number: sagittal slices from
the patient's right to the left, axial slices from head to feet. Slices without a position come
last, by instance number and file name.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.labels import Group
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason, Skip, SkipFile
from rsna_lumbar.runtime.decode.decoder import Decoded, DecodeHere, Decoder
from rsna_lumbar.runtime.decode.slice_selection import relevant
from rsna_lumbar.runtime.dicom.header import Geometry
from rsna_lumbar.runtime.dicom.series_kind import plane_of
from rsna_lumbar.runtime.dicom.slices import Slice
from rsna_lumbar.runtime.studies.study import Inventory, Study, natural_key, relative

FEWER = "fewer frames than its header tells apart"
Pending = Callable[[], Decoded]
# (instance UID, some pixels) -> files of the set
Seen = dict[tuple[str, bytes], list[Sequence[Slice]]]
Select = Callable[[Sequence[Slice], Group], Sequence[Slice]]


def _every_slice(slices: Sequence[Slice], _: Group) -> Sequence[Slice]:
    return slices


# The slices of a series that go into its set.
SELECTIONS: Mapping[str, Select] = {"all": _every_slice, "relevant": relevant}


@dataclass(frozen=True, slots=True)
class SetRequest:
    """A request to decode the files of one set, series by series."""

    study_id: str
    group: Group
    size_px: int
    series: tuple[tuple[Path, ...], ...]
    # only for files of which not all frames are read
    frames: Mapping[Path, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study, group: Group, size_px: int) -> Self:
        """The request for the files of a study that a group reads."""
        read = study.of(group)
        frames = {path: frames for one in read for path, frames in one.frames.items()}
        return cls(study.study_id, group, size_px, tuple(one.files for one in read), frames)

    @property
    def file_count(self) -> int:
        return sum(map(len, self.series))


@dataclass(slots=True)
class Decoding:
    """Counts of decoded and skipped files and slices."""

    files: int = 0  # decoded files
    skipped: int = 0  # files that could not be decoded
    left_out: int = 0  # slices that were not selected
    without_orientation: int = 0  # selected slices that stay as stored
    # transfer syntax and decoder -> number of files
    by: Counter[str] = field(default_factory=Counter)

    def add(self, other: Decoding) -> None:
        """Add the counts of another record."""
        for one in fields(self):
            total = getattr(self, one.name)
            total += getattr(other, one.name)
            setattr(self, one.name, total)


@dataclass(frozen=True, slots=True)
class SliceSet:
    """A decoded set, in order, and those of its files that could not be used or are doubtful."""

    request: SetRequest
    slices: tuple[Slice, ...]
    skips: tuple[Skip, ...]
    decoding: Decoding = field(default_factory=Decoding)

    @property
    def images(self) -> NDArray[np.uint8]:
        """(n, S, S) uint8."""
        return np.stack([one.image for one in self.slices])


def decode_sets(
    requests: Iterable[SetRequest], decoder: Decoder, *, data: Path, slices: str = "all"
) -> Iterator[SliceSet]:
    """Decode sets in the order of the requests.

    Args:
        requests: read ahead of the yielded sets by ``decoder.ahead`` files.
        decoder: from :func:`rsna_lumbar.runtime.decode.factory.open_decoder`.
        data: the folder that paths of skipped files are relative to.
        slices: which slices to select, a name in SELECTIONS.
    """
    select = SELECTIONS[slices]
    waiting: deque[tuple[SetRequest, list[list[Pending]]]] = deque()
    files_waiting = 0
    for request in requests:
        pending = [[decoder.submit(f, request.size_px) for f in files] for files in request.series]
        waiting.append((request, pending))
        files_waiting += request.file_count
        while waiting and files_waiting - waiting[0][0].file_count >= decoder.ahead:
            request, pending = waiting.popleft()
            files_waiting -= request.file_count
            yield _gather(request, pending, data, select)
    for request, pending in waiting:
        yield _gather(request, pending, data, select)


def read_sets(
    inventory: Inventory, group: Group, *, size_px: int, preprocessing: Preprocessing
) -> dict[str, NDArray[np.uint8]]:
    """Decode the sets of one group of an inventory, for verification and benchmarks.

    Returns:
        Study id -> (n, size_px, size_px) uint8, n > 0, in the order of the inventory; studies
        without a slice are excluded.
    """
    requests = (SetRequest.of(study, group, size_px) for study in inventory.studies)
    decoded = decode_sets(requests, DecodeHere(preprocessing), data=inventory.data)
    return {one.request.study_id: one.images for one in decoded if one.slices}


def _gather(
    request: SetRequest, pending: list[list[Pending]], data: Path, select: Select
) -> SliceSet:
    """Wait for the files of a set; order the slices of each series, and select from them."""
    skips: list[Skip] = []
    seen: Seen = {}
    series = [
        [
            _read(file, wait(), request, data=data, skips=skips, seen=seen)
            for file, wait in zip(files, waits, strict=True)
        ]
        for files, waits in zip(request.series, pending, strict=True)
    ]
    used = [slices for files in series for slices in files if slices]
    in_order = (sorted(chain(*files), key=_place_in_series) for files in series)
    slices = tuple(one for of_series in in_order for one in select(of_series, request.group))
    decoding = Decoding(
        files=len(used),
        skipped=sum(map(len, series)) - len(used),
        left_out=sum(map(len, used)) - len(slices),
        without_orientation=sum(one.turn is None for one in slices),
        by=Counter(of_file[0].decoded_by for of_file in used),
    )
    return SliceSet(request, slices, tuple(skips), decoding)


def _read(
    file: Path, decoded: Decoded, request: SetRequest, *, data: Path, skips: list[Skip], seen: Seen
) -> list[Slice]:
    """The slices of a file that its set reads, none if it is refused.

    Adds to ``skips`` what is not used or is doubtful, and to ``seen`` the file.
    """
    if isinstance(decoded, SkipFile):
        skips.append(decoded.named(relative(file, data)))
        return []
    try:
        frames = _asked_for(decoded, request.frames.get(file))
        slices = _unless_seen(_in_plane(frames, request.group), seen)
    except SkipFile as skip:
        skips.append(skip.named(relative(file, data)))
        return []
    if left_out := len(frames) - len(slices):
        skips.append(Skip(Reason.OTHER_PLANE, relative(file, data), f"{left_out} frames"))
    if doubt := next((one.doubt for one in slices if one.doubt), ""):
        skips.append(Skip(Reason.ZERO_TAIL, relative(file, data), doubt))
    return slices


def _asked_for(decoded: list[Slice], frames: frozenset[int] | None) -> list[Slice]:
    """The frames of a file that the set reads; raises SkipFile if there are none."""
    asked = [one for one in decoded if frames is None or one.frame in frames]
    if not asked:
        raise SkipFile(Reason.BAD_PIXELS, FEWER)
    return asked


def _in_plane(frames: Sequence[Slice], group: Group) -> list[Slice]:
    """Frames in the group's plane, or without a position; raises SkipFile if all are in others."""
    planes = [plane_of(one.geometry.orientation) if one.geometry else None for one in frames]
    if any(planes) and group.plane not in planes:
        raise SkipFile(Reason.OTHER_PLANE, f"{min(filter(None, planes))} among {group.plane}")
    return [one for one, plane in zip(frames, planes, strict=True) if plane in (None, group.plane)]


def _unless_seen(slices: list[Slice], seen: Seen) -> list[Slice]:
    """Add a file to those of the set; raises SkipFile if all of it is in the set already.

    Files that share an instance's UID but not its pixels both count, because it is not possible
    to tell which of them is wrong.
    """
    if uid := slices[0].instance_uid:
        some_pixels = slices[0].image[::16, ::16].tobytes()
        alike = seen.setdefault((uid, some_pixels), [])
        if any(_same_pixels(slices, other) for other in alike):
            raise SkipFile(Reason.DUPLICATE)
        alike.append(slices)
    return slices


def _same_pixels(one: Sequence[Slice], other: Sequence[Slice]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.image, b.image) for a, b in zip(one, other, strict=True)
    )


def _place_in_series(one: Slice) -> tuple[object, ...]:
    """Sort key: position in the patient, then instance number, then file name."""
    number = math.inf if one.instance_number is None else one.instance_number
    along = math.inf if one.geometry is None else _along_mm(one.geometry)
    return along, number, natural_key(one.file.name), one.frame


def _along_mm(geometry: Geometry) -> float:
    """Millimetres from the patient's right for sagittal slices, from the head for axial slices."""
    right_to_left, front_to_back, feet_to_head = geometry.centre_mm
    plane = plane_of(geometry.orientation)
    return {"sagittal": right_to_left, "coronal": front_to_back, "axial": -feet_to_head}[plane]
