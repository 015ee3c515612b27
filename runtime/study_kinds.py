"""The files of one study -> its series, each with the detector that reads it, and why.

    files -> parts (parts.py) -> who reads each, by its header (series_kind.py) and by the others of
    the study -> one of those that show the same anatomy (same_anatomy.py) -> series

What the others of a study tell:

- Where nothing says that it is a lumbar spine, sizes decide: a sagittal picture shows 180 to 500 mm
  of height and a stack of at most 130 mm across (a brain is 140 wide and more, a knee 160 high); an
  axial stack is read beside such a sagittal one, at its height; of sagittal stacks one above the
  other the lowest is the lumbar spine, and one alone is unknown where several parts of the spine
  are named.
- Where no header of a study gives times, as those of the challenge do not, a sagittal series that
  says nothing is the kind that is left over, and an axial one is T2.
- What cannot be told is a fault only where its kind is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rsna_lumbar.runtime.headers import Header
from rsna_lumbar.runtime.labels import FORAMINAL, GROUPS, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.parts import Found, Part, parts_of, told_frames
from rsna_lumbar.runtime.reasons import Reason, Skip
from rsna_lumbar.runtime.same_anatomy import without_copies
from rsna_lumbar.runtime.series_kind import (
    NOBODYS,
    SAYS_NOTHING,
    SEVERAL,
    UNKNOWN,
    Verdict,
    plane_of,
)
from rsna_lumbar.runtime.studies import (
    FROM_HEADER,
    FROM_OTHERS,
    FROM_TABLE,
    Facts,
    Series,
    natural_key,
)

HEIGHT_MM = (180.0, 500.0)
WIDEST_STACK_MM = 130.0
ABOVE_MM = 150.0  # between the middles of two sagittal stacks one above the other
BESIDE_MM = 30.0  # that an axial stack may lie above or below the sagittal pictures


def series_of(
    study_id: str,
    members: Mapping[str, Sequence[Found]],
    names: Mapping[str, str],
    shown: Mapping[str, str],
    listed: Mapping[str, Group | None],
    *,
    is_spine: bool,
) -> tuple[list[Series], list[Skip]]:
    """Series of a study by their headers, and what was left out and why.

    Further parts of a series are called like it, with ~2, ~3 and so on.

    Args:
        study_id: of the study.
        members: key of a series -> its files.
        names: key of a series -> its id.
        shown: key of a series -> what reports call it.
        listed: key of a series, or of a part of it -> who is to read it, whatever headers say.
        is_spine: whether the place of the files says that they show lumbar spines.
    """
    parts = [
        part for key in sorted(members, key=natural_key) for part in parts_of(key, members[key])
    ]
    parts = _by_what_is_left(parts)
    if not is_spine:
        parts = _by_sizes(parts)
    kept: list[Part] = []
    copies: list[tuple[Part, Part]] = []
    for group in GROUPS:
        read, copied = without_copies(one for one in parts if one.verdict.reader is group)
        kept += read
        copies += copied
    found = {part.verdict.reader for part in kept}
    rest = [_excused(part, found) for part in parts if not isinstance(part.verdict.reader, Group)]
    told = _told_parts(kept, copies, rest)
    return _as_series(study_id, told, names, shown, listed)


def _by_sizes(parts: Iterable[Part]) -> list[Part]:
    """Parts of which nothing says that they show a lumbar spine, told by size and place."""
    sized = [_by_height(part) for part in parts]
    sized = [_by_station(part, sized) for part in sized]
    return [_by_sagittal(part, sized) for part in sized]


def _open(part: Part, plane: str) -> bool:
    """Whether it is to be read and only its size says that it is a spine."""
    told = part.verdict.body_told or not isinstance(part.verdict.reader, Group)
    return part.plane == plane and not told


def _by_height(part: Part) -> Part:
    if not _open(part, "sagittal"):
        return part
    height = part.height_mm
    shown_mm = None if height is None else height[1] - height[0]
    if shown_mm is not None and not HEIGHT_MM[0] <= shown_mm <= HEIGHT_MM[1]:
        return _doubted(part, f"pictures of {shown_mm:.0f} mm height")
    if part.width_mm > WIDEST_STACK_MM:
        return _doubted(part, f"a stack {part.width_mm:.0f} mm wide")
    return part


def _by_station(part: Part, parts: Sequence[Part]) -> Part:
    """The lowest of sagittal stacks one above the other is the lumbar spine."""
    height = part.height_mm
    if not _open(part, "sagittal") or height is None:
        return part
    middles = [
        sum(one.height_mm) / 2
        for one in parts
        if one.plane == "sagittal" and one.height_mm and isinstance(one.verdict.reader, Group)
    ]
    if sum(height) / 2 > min(middles) + ABOVE_MM:
        return _doubted(part, "above another stack")
    if part.verdict.body == SEVERAL and max(middles) <= min(middles) + ABOVE_MM:
        return _doubted(part, "one station of a spine of which several parts are named")
    return part


def _by_sagittal(part: Part, parts: Sequence[Part]) -> Part:
    """An axial stack is read at the height of a sagittal one."""
    if not _open(part, "axial"):
        return part
    beside = [
        one for one in parts if one.plane == "sagittal" and isinstance(one.verdict.reader, Group)
    ]
    if not beside:
        return _doubted(part, "no sagittal series of a spine beside it")
    heights = [one.height_mm for one in beside if _same_frame(one, part) and one.height_mm]
    at = part.positions_mm
    if heights and at:
        middle = at[len(at) // 2]
        low, high = min(low for low, _ in heights), max(high for _, high in heights)
        if not low - BESIDE_MM <= middle <= high + BESIDE_MM:
            return _doubted(part, "not at the height of the sagittal series")
    return part


def _same_frame(one: Part, other: Part) -> bool:
    a, b = one.header.frame_of_reference_uid, other.header.frame_of_reference_uid
    return not a or not b or a == b


def _doubted(part: Part, why: str) -> Part:
    reader = part.verdict.reader
    assert isinstance(reader, Group)
    said = f"{why}, and nothing says that it is a lumbar spine"
    return replace(part, verdict=Verdict(UNKNOWN, said, (reader,)))


def _by_what_is_left(parts: list[Part]) -> list[Part]:
    """In a study whose headers give no times, what says nothing is the kind that is left over."""
    if any(one.acquisition.has_times for part in parts for one in part.frames):
        return parts
    told = {part.verdict.reader for part in parts}
    left = [group for group in (SPINAL, FORAMINAL) if group not in told]
    silent = [part for part in parts if part.verdict.why == SAYS_NOTHING]
    by_plane: dict[str | None, Group | None] = {
        "sagittal": left[0] if len(left) == 1 else None,
        "axial": SUBARTICULAR if SUBARTICULAR not in told else None,
    }
    sagittal = [part for part in silent if part.plane == "sagittal"]
    if len(sagittal) > 1:
        by_plane["sagittal"] = None
    return [
        replace(part, verdict=Verdict(group, LEFT_OVER))
        if part in silent and (group := by_plane.get(part.plane))
        else part
        for part in parts
    ]


LEFT_OVER = "the kind that the others leave over"


def _excused(part: Part, found: Iterable[object]) -> Part:
    """What cannot be told is no fault where each kind that it could be is read."""
    could_be = set(part.verdict.could_be)
    if part.verdict.reader is UNKNOWN and could_be and could_be <= set(found):
        return replace(part, verdict=replace(part.verdict, reader=NOBODYS))
    return part


# Parts -> records


@dataclass(frozen=True, slots=True)
class _Told:
    """Parts that become one series."""

    key: str  # of the series
    ending: str  # "" or "~2", ...
    parts: Sequence[Part]
    reader: Group | Reason
    why: str


def _told_parts(
    kept: Iterable[Part],
    copies: Iterable[tuple[Part, Part]],
    rest: Iterable[Part],
) -> list[_Told]:
    """What is read comes first under the name of its series."""
    merged: dict[tuple[str, Group], list[Part]] = {}
    for part in kept:
        assert isinstance(part.verdict.reader, Group)
        merged.setdefault((part.series, part.verdict.reader), []).append(part)
    told: list[_Told] = []
    count: Counter[str] = Counter()

    def add(parts: Sequence[Part], reader: Group | Reason, why: str) -> _Told:
        key = parts[0].series
        count[key] += 1
        ending = f"~{count[key]}" if count[key] > 1 else ""
        told.append(_Told(key, ending, parts, reader, why))
        return told[-1]

    chosen_as: dict[Part, _Told] = {}
    for (_, group), parts in merged.items():
        one = add(parts, group, _largest(parts).verdict.why)
        chosen_as |= dict.fromkeys(parts, one)
    for part, other in copies:
        slices = sum(len(one.frames) for one in chosen_as[other].parts)
        why = f"{part.verdict.why}; another of {slices} slices shows the same anatomy"
        add([part], Reason.SAME_ANATOMY, why)
    refused: dict[tuple[object, ...], list[Part]] = {}
    for part in rest:
        refused.setdefault((part.series, *part.verdict.sort), []).append(part)
    for parts in refused.values():
        add(parts, parts[0].verdict.reader, parts[0].verdict.why)
    return told


def _as_series(
    study_id: str,
    told: Sequence[_Told],
    names: Mapping[str, str],
    shown: Mapping[str, str],
    listed: Mapping[str, Group | None],
) -> tuple[list[Series], list[Skip]]:
    series, skips = [], []
    for one in told:
        group = one.reader if isinstance(one.reader, Group) else None
        by_table = one.key + one.ending in listed
        group = listed[one.key + one.ending] if by_table else group
        made = _series(study_id, names[one.key] + one.ending, group, one)
        series.append(replace(made, group_from=FROM_TABLE) if by_table else made)
        if group is None:
            reason = Reason.KIND_NOT_NEEDED if by_table else one.reader
            assert isinstance(reason, Reason)
            why = "listed as another kind" if by_table else one.why
            what = f"{shown[one.key]}{one.ending}"
            skips.append(Skip(reason, what, f"series of {len(made.files)} files: {why}"))
    read = {one.key for one in told if isinstance(one.reader, Group)}
    for key, count in Counter(one.key for one in told).items():
        if count > 1 and key in read:
            skips.append(
                Skip(Reason.REGROUPED, shown[key], f"one series by its UID, {count} by headers")
            )
    return sorted(series, key=lambda one: natural_key(one.series_id)), skips


def _largest(parts: Sequence[Part]) -> Part:
    return max(parts, key=lambda part: len(part.frames))


def _series(study_id: str, name: str, group: Group | None, told: _Told) -> Series:
    frames: dict[Path, set[int]] = {}
    all_frames: dict[Path, int] = {}
    for one in (one for part in told.parts for one in part.frames):
        frames.setdefault(one.file.path, set()).add(one.index)
        all_frames[one.file.path] = told_frames(one.file.header)
    partly = [path for path, indices in frames.items() if len(indices) < all_frames[path]]
    return Series(
        study_id,
        name,
        group,
        FROM_OTHERS if told.why == LEFT_OVER else FROM_HEADER,
        tuple(sorted(frames, key=lambda path: natural_key(path.as_posix()))),
        frames={path: frozenset(frames[path]) for path in partly},
        facts=_facts(told.parts),
        why=told.why if _body_told(told) else f"{told.why}; no header names a body part",
    )


def _body_told(told: _Told) -> bool:
    """Whether it matters, and a header says it."""
    first = _largest(told.parts).verdict
    return first.body_told or not isinstance(told.reader, Group)


def _facts(parts: Sequence[Part]) -> Facts:
    first = _largest(parts)
    how = first.acquisition
    slices = sum(len(part.frames) for part in parts)
    return replace(
        facts_of(first.header, slices),
        plane=first.plane,
        gap_mm=first.gap_mm,
        echo_ms=how.echo_ms,
        repetition_ms=how.repetition_ms,
        inversion_ms=how.inversion_ms,
        description=how.description,
    )


def facts_of(header: Header, slices: int) -> Facts:
    """What is known of a series by the header of one of its files."""
    how = header.acquisitions[0]
    turned = header.orientation
    return Facts(
        plane=plane_of(turned) if turned else None,
        slices=slices,
        rows=header.rows,
        columns=header.columns,
        spacing_mm=header.spacing_mm,
        gap_mm=None,
        echo_ms=how.echo_ms,
        repetition_ms=how.repetition_ms,
        inversion_ms=how.inversion_ms,
        description=how.description,
    )
