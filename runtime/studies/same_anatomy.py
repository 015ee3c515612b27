"""Choose one of several series that show the same anatomy: a maximum over copies inflates grades.

The order of preference is ``preference``: a plain picture before one that is fat-suppressed (also
STIR), acquired after a contrast agent, 3D, or computed from others; then the series with the most
slices; then, for T2, the one with the usual echo; then the later one, because a repeat was made for
a reason. Series that cover different parts of the body are all read.

A slice is covered if a slice that is already read lies within three quarters of the distance
between its slices (a quarter inside one series, whose slices may interleave), and, for sagittal
slices, if the pictures share half of their height. A series is a copy if more than half of its
slices are covered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from rsna_lumbar.runtime.core.labels import FORAMINAL
from rsna_lumbar.runtime.studies.series_parts import Part
from rsna_lumbar.runtime.studies.study import natural_key

REACH, REACH_INSIDE = 0.75, 0.25  # shares of the distance between slices
REACH_ALONE_MM = 1.0  # for a single slice
REACH_FAR_MM = 50.0
MOST_COVERED = 0.5
USUAL_ECHO_MS = 100.0  # for T2; of the echoes of a map, the nearest is read


def without_copies(
    parts: Iterable[Part], first: Iterable[Part] = ()
) -> tuple[list[Part], list[tuple[Part, Part]]]:
    """Parts of one kind -> the parts that are read, and each copy with the part that covers it.

    The kind of ``parts`` is known from their headers; those in ``first`` are read in any case.
    """
    kept = list(first)
    copies: list[tuple[Part, Part]] = []
    for part in sorted(parts, key=preference):
        covering = [one for one in kept if _may_cover(one, part)]
        if _covered_share(part, covering) > MOST_COVERED:
            copies.append((part, max(covering, key=lambda one: _covered_share(part, [one]))))
        else:
            kept.append(part)
    return kept, copies


def preference(part: Part) -> tuple[object, ...]:
    """Sort key: the best comes first."""
    number = part.header.series_number or 0
    return (
        part.verdict.second_choice,
        -len(part.frames),
        _unusual_ms(part),
        -number,
        _later_first(part.header.time),
        natural_key(part.series),
    )


def _unusual_ms(part: Part) -> float:
    """Difference between the echo time of a T2 part and the usual one."""
    echo_ms = part.acquisition.echo_ms
    is_t2 = part.verdict.reader is not FORAMINAL
    return abs(echo_ms - USUAL_ECHO_MS) if is_t2 and echo_ms else 0.0


def _later_first(time: str) -> tuple[int, ...]:
    return tuple(-ord(sign) for sign in time)


def _covered_share(part: Part, others: Sequence[Part]) -> float:
    positions = part.positions_mm
    if not positions:
        return 0.0
    if any(not same_frame(one, part) for one in others):
        return 1.0
    covered = sum(any(_covers(one, part, at) for one in others) for at in positions)
    return covered / len(positions)


def _covers(one: Part, part: Part, at_mm: float) -> bool:
    positions = one.positions_mm
    share = REACH_INSIDE if one.series == part.series else REACH
    reach = share * one.gap_mm if one.gap_mm else REACH_ALONE_MM
    index = bisect_left(positions, at_mm)
    return any(abs(at_mm - near) <= reach for near in positions[max(0, index - 1) : index + 1])


def _may_cover(one: Part, part: Part) -> bool:
    """Whether a part can show the same anatomy as another.

    Positions in different frames of reference cannot be compared. Of sagittal series, which show
    the whole lumbar spine, one is read; axial series may show other discs, so all are read.
    """
    mine, theirs = part.positions_mm, one.positions_mm
    if not mine or not theirs:
        return False
    if not same_frame(one, part):
        return part.plane == "sagittal"
    apart = mine[-1] < theirs[0] - REACH_FAR_MM or mine[0] > theirs[-1] + REACH_FAR_MM
    return not apart and _share_height(part, one)


def same_frame(one: Part, other: Part) -> bool:
    a, b = one.header.frame_of_reference_uid, other.header.frame_of_reference_uid
    return not a or not b or a == b


def _share_height(part: Part, other: Part) -> bool:
    """Whether sagittal pictures show the same height; axial ones are compared by position."""
    if part.plane != "sagittal":
        return True
    mine, theirs = part.height_mm, other.height_mm
    if mine is None or theirs is None or mine[1] <= mine[0]:
        return True
    shared = min(mine[1], theirs[1]) - max(mine[0], theirs[0])
    return shared > MOST_COVERED * (mine[1] - mine[0])
