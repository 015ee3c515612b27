"""Files of one series -> parts: frames of one kind, plane, echo and size.

Usually a series is one part. It has several if an archive gave all series of a study one UID,
if two echoes share a series, or if an enhanced file contains several planes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np

from rsna_lumbar.runtime.core.labels import Group
from rsna_lumbar.runtime.dicom.acquisition import Acquisition
from rsna_lumbar.runtime.dicom.header import Header, Vector
from rsna_lumbar.runtime.dicom.series_kind import NOBODYS, Verdict, plane_of, verdict

# Echo times with a larger ratio are two echoes; GE's effective ones vary by a few percent.
ECHO_RATIO = 1.15
# A part of at most this size has an odd header; it is not a different picture.
FEW_FRAMES, FEW_MORE, FEW_SHARE, FEW_BESIDE = 2, 4, 0.1, 3
LOCALIZER_SLICES = 7  # at most, in each of several planes
LOCALIZER_SHARE = 0.6  # at most, in the plane with the most
THICK_MM = 8.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """A file and its header."""

    path: Path
    header: Header


@dataclass(frozen=True, slots=True)
class FrameOf:
    """One frame of a file."""

    file: Found
    index: int

    @property
    def acquisition(self) -> Acquisition:
        return _at(self.file.header.acquisitions, self.index)

    @property
    def orientation(self) -> Vector | None:
        return _at(self.file.header.orientations, self.index)

    @property
    def centre_mm(self) -> Vector | None:
        return _at(self.file.header.centres_mm, self.index)

    @property
    def plane(self) -> str | None:
        return plane_of(self.orientation) if self.orientation else None


@dataclass(frozen=True, eq=False)  # without slots, so that properties can be cached
class Part:
    """Frames of one series that belong together."""

    series: str  # key of the series
    plane: str | None
    verdict: Verdict
    frames: tuple[FrameOf, ...]
    name: str = ""  # id of the series that it becomes

    @cached_property
    def acquisition(self) -> Acquisition:
        """The acquisition of most of the frames."""
        return Counter(one.acquisition for one in self.frames).most_common(1)[0][0]

    @property
    def header(self) -> Header:
        """The header of the first file."""
        return self.frames[0].file.header

    @property
    def file_count(self) -> int:
        return len({one.file.path for one in self.frames})

    @cached_property
    def positions_mm(self) -> tuple[float, ...]:
        """Positions along the patient axis that the slices follow, rising; if they have one."""
        axis = {"sagittal": 0, "coronal": 1, "axial": 2}.get(self.plane or "")
        centres = (one.centre_mm for one in self.frames)
        return tuple(sorted(c[axis] for c in centres if c)) if axis is not None else ()

    @cached_property
    def gap_mm(self) -> float | None:
        """Distance between neighbouring slices, the median."""
        steps = np.diff(self.positions_mm)
        steps = steps[steps > 1e-3]
        return float(np.median(steps)) if len(steps) else None

    @cached_property
    def height_mm(self) -> tuple[float, float] | None:
        """What most pictures show, from the feet to the head; None if that is not known."""
        spans = [span for one in self.frames if (span := _height_mm(one)) is not None]
        return (
            (median(low for low, _ in spans), median(high for _, high in spans)) if spans else None
        )

    @property
    def width_mm(self) -> float:
        """Width of the stack over the middle 90 % of its slices, to ignore a few odd ones."""
        if not self.positions_mm:
            return 0.0
        low = np.quantile(self.positions_mm, 0.05, method="higher")
        high = np.quantile(self.positions_mm, 0.95, method="lower")
        return float(high - low) / 0.9


def parts_of(series: str, files: Iterable[Found]) -> list[Part]:
    """Split a series into parts, the largest first."""
    frames = [FrameOf(one, index) for one in files for index in range(told_frames(one.header))]
    echoes = _echo_clusters(frames)
    groups: dict[tuple[object, ...], list[FrameOf]] = defaultdict(list)
    for one in frames:
        header, plane = one.file.header, one.plane
        echo = echoes.get(one.acquisition.echo_ms)
        kind = _verdict(one)
        groups[plane, kind.sort, echo, header.rows, header.columns].append(one)
    parts = [
        Part(series, of_part[0].plane, _verdict(of_part[0]), tuple(of_part))
        for of_part in groups.values()
    ]
    merged = _without_strays(sorted(parts, key=lambda part: -len(part.frames)))
    return _told_by_look(merged)


def _verdict(one: FrameOf) -> Verdict:
    return verdict(one.acquisition, one.plane)


def told_frames(header: Header) -> int:
    """Number of frames to distinguish: all of them only if they differ."""
    return max(map(len, (header.acquisitions, header.orientations, header.centres_mm)))


def _at(values: tuple[T, ...], index: int) -> T:
    return values[index] if index < len(values) else values[0]


def _echo_clusters(frames: Sequence[FrameOf]) -> dict[float | None, int]:
    """Echo time -> number of its cluster."""
    times = sorted({one.acquisition.echo_ms for one in frames if one.acquisition.echo_ms})
    clusters: dict[float | None, int] = {}
    number, before = 0, 0.0
    for time in times:
        number += before > 0 and time > before * ECHO_RATIO
        clusters[time] = number
        before = time
    return clusters


def _without_strays(parts: list[Part]) -> list[Part]:
    """Join a few odd headers to their part, and headers without facts to one of their plane.

    A part whose header says that it is a localizer or a map is not joined. Files of another plane
    are found again when they are decoded, and reported as left out. Frames of an enhanced file are
    never strays, because its header was written in one piece.
    """
    speaking = [part for part in parts if part.verdict.tells] or parts[:1]
    joined: dict[Part, list[FrameOf]] = {}
    for part in speaking:
        in_plane = sorted(joined, key=lambda one: one.plane != part.plane)
        host = next((one for one in in_plane if _is_stray(part, one)), None)
        if host is None:
            joined[part] = list(part.frames)
        else:
            joined[host] += part.frames
    for part in parts:
        if not any(part is one for one in speaking):
            hosts = (one for one in joined if part.plane in (one.plane, None))
            joined.setdefault(next(hosts, part), []).extend(part.frames)
    return [replace(part, frames=tuple(frames)) for part, frames in joined.items()]


def _is_stray(part: Part, host: Part) -> bool:
    count, beside = len(part.frames), len(host.frames)
    if not _of_single_frames(part) or count * FEW_BESIDE > beside:
        return False
    if part.plane == host.plane:
        signed = part.verdict.reader is NOBODYS and isinstance(host.verdict.reader, Group)
        return not signed and (count <= FEW_FRAMES or count <= min(FEW_MORE, FEW_SHARE * beside))
    return count <= FEW_FRAMES


def _of_single_frames(part: Part) -> bool:
    return all(one.file.header.frames == 1 for one in part.frames)


def _told_by_look(parts: list[Part]) -> list[Part]:
    """Recognise localizers by geometry: few slices in several planes, or few and thick ones."""
    counts = Counter[str]()
    for part in parts:
        counts[part.plane or ""] += len(part.frames)
    most = max(counts.values(), default=0)
    several = len(counts) > 1 and most <= LOCALIZER_SLICES
    if several and most <= LOCALIZER_SHARE * counts.total():
        return [_refused(part, "a localizer: few slices in several planes") for part in parts]
    return [
        _refused(part, "a localizer: few thick slices")
        if _few_and_thick(part)
        else _refused(part, "few frames of another plane")
        if _few_of_a_file(part, parts)
        else part
        for part in parts
    ]


def _few_and_thick(part: Part) -> bool:
    thickness = part.acquisition.thickness_mm or 0
    return len(part.frames) <= LOCALIZER_SLICES and thickness >= THICK_MM


def _few_of_a_file(part: Part, parts: Sequence[Part]) -> bool:
    """Whether these are few frames of an enhanced file, beside many more in another plane."""
    count = len(part.frames)
    if count > FEW_FRAMES or _of_single_frames(part):
        return False
    return any(one.plane != part.plane and len(one.frames) >= FEW_BESIDE * count for one in parts)


def _refused(part: Part, why: str) -> Part:
    if not isinstance(part.verdict.reader, Group):
        return part
    return replace(part, verdict=Verdict(NOBODYS, why))


def _height_mm(one: FrameOf) -> tuple[float, float] | None:
    header, orientation, centre = one.file.header, one.orientation, one.centre_mm
    if orientation is None or centre is None or header.spacing_mm is None:
        return None
    down_mm, across_mm = header.rows * header.spacing_mm[0], header.columns * header.spacing_mm[1]
    half = (abs(orientation[5]) * down_mm + abs(orientation[2]) * across_mm) / 2
    return centre[2] - half, centre[2] + half
