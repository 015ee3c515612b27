"""The files of one study -> its series, each with the detector that reads it, and why.

    files -> parts (series_parts.py) -> detector of each part, by its header (series_kind.py) and by
    the other parts of the study -> one of those with the same anatomy (same_anatomy.py) -> series

Rules that use the other parts of a study:

- If nothing says that it is a lumbar spine, sizes decide. A sagittal picture must show 180 to
  500 mm of height in a stack of at most 130 mm across (a brain is 140 wide and more, a knee 160
  high). An axial stack is read beside such a sagittal stack, at its height. Of sagittal stacks
  one above the other, the lowest is the lumbar spine; a single stack is unknown if several parts
  of the spine are named.
- If no header of a study gives times, as in the challenge, a sagittal series whose header says
  nothing is of the kind that is left over, and an axial series is T2.
- A series of unknown kind is a fault only if its kind is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.core.reasons import Reason, Skip
from rsna_lumbar.runtime.dicom.acquisition import Acquisition
from rsna_lumbar.runtime.dicom.header import Header
from rsna_lumbar.runtime.dicom.series_kind import (
    LUMBAR,
    NOBODYS,
    SAYS_NOTHING,
    SEVERAL,
    UNKNOWN,
    Verdict,
    plane_of,
)
from rsna_lumbar.runtime.studies.same_anatomy import same_frame, without_copies
from rsna_lumbar.runtime.studies.series_parts import Found, Part, parts_of, told_frames
from rsna_lumbar.runtime.studies.study import (
    FROM_HEADER,
    FROM_OTHERS,
    FROM_TABLE,
    NO_BODY_PART,
    Facts,
    Series,
    natural_key,
    unused,
)

HEIGHT_MM = (180.0, 500.0)
WIDEST_STACK_MM = 130.0
ABOVE_MM = 150.0  # between the middles of two sagittal stacks that lie one above the other
MOST_SHARED = 1 / 3  # share of their height
BESIDE_MM = 30.0  # distance that an axial stack may lie above or below the sagittal pictures


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a table for the series of one study."""

    groups: Mapping[str, Group | None] = field(default_factory=dict)  # id -> group that reads it
    aliases: Mapping[str, Iterable[str]] = field(default_factory=dict)  # key -> its other ids
    used: set[str] = field(default_factory=set)  # ids that matched a series; filled while matching

    def of(self, key: str, name: str, ending: str) -> str | None:
        """The row for a part of a series: by its own name, or else by another id of the series."""
        names = (name, *(f"{alias}{ending}" for alias in self.aliases.get(key, ())))
        return next((one for one in names if one in self.groups), None)


def series_of(
    study_id: str,
    members: Mapping[str, Sequence[Found]],
    names: Mapping[str, str],
    shown: Mapping[str, str],
    rows: Rows,
    *,
    is_spine: bool,
) -> tuple[list[Series], list[Skip]]:
    """Series of a study by their headers; and what was left out, with the reason.

    Further parts of a series are named like it, with ~2, ~3 and so on, the largest first. These
    names depend on the files alone, never on a table.

    Args:
        study_id: id of the study.
        members: key of a series -> its files.
        names: key of a series -> its id; the ids are unique.
        shown: key of a series -> its name in reports.
        rows: rows of a table; series listed there are read as the table says, not the headers.
        is_spine: whether the location of the files says that they show lumbar spines.
    """
    taken = set(names.values())
    parts: list[Part] = []
    for key in sorted(members, key=natural_key):
        largest, *further = parts_of(key, members[key])
        of_series = [replace(largest, name=names[key])]
        for part in further:
            of_series.append(replace(part, name=unused(names[key], taken)))
            taken.add(of_series[-1].name)
        parts += _listed(of_series, rows)
    parts = _by_what_is_left(parts)
    if not is_spine:
        parts = _by_sizes(parts)
    kept: list[Part] = []
    copies: list[tuple[Part, Part]] = []
    for group in GROUPS:
        of_group = [one for one in parts if one.verdict.reader is group]
        first = [one for one in of_group if one.verdict.why in BY_TABLE]
        read, copied = without_copies((one for one in of_group if one not in first), first)
        kept += read
        copies += copied
    found = {part.verdict.reader for part in kept}
    refused = [part for part in parts if not isinstance(part.verdict.reader, Group)]
    rest = [_excused(part, found) for part in refused]
    return _as_series(study_id, _told_parts(kept, copies, rest), names, shown)


BY_TABLE = ("the table", "listed as another kind")


def _listed(parts: list[Part], rows: Rows) -> list[Part]:
    """Parts of a series as a table lists them; a row may name the series or a part of it.

    A row for a series applies to the parts that headers assign to its detector, or else to all of
    its parts.
    """
    own: dict[Part, str] = {}
    for number, part in enumerate(parts, start=1):
        row = rows.of(part.series, part.name, "" if number == 1 else f"~{number}")
        if row is not None:
            own[part] = row
    rows.used.update(own.values())
    whole = own.pop(parts[0], None)
    told = {part: rows.groups[row] for part, row in own.items()}
    if whole is not None:
        group = rows.groups[whole]
        rest = [part for part in parts if part not in told]
        of_group = [part for part in rest if group and part.verdict.reader is group]
        told |= dict.fromkeys(of_group or rest, group)
    return [_by_table(part, told[part]) if part in told else part for part in parts]


def _by_table(part: Part, group: Group | None) -> Part:
    read, other = BY_TABLE
    if group is None:
        return replace(part, verdict=Verdict(NOBODYS, other))
    return replace(part, verdict=Verdict(group, read, body=LUMBAR))


def _by_sizes(parts: Iterable[Part]) -> list[Part]:
    """Decide by size and position for parts whose headers do not name a lumbar spine."""
    sized = [_by_height(part) for part in parts]
    beside = _sagittal(sized)
    sized = [_by_station(part, beside) for part in sized]
    beside = _sagittal(sized)
    return [_by_sagittal(part, beside) for part in sized]


def _open(part: Part, plane: str) -> bool:
    """Whether it would be read, and only its size can say that it is a spine."""
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


def _sagittal(parts: Iterable[Part]) -> list[Part]:
    """The sagittal parts that are read."""
    return [p for p in parts if p.plane == "sagittal" and isinstance(p.verdict.reader, Group)]


def _by_station(part: Part, beside: Sequence[Part]) -> Part:
    """Of sagittal stacks one above the other, only the lowest is the lumbar spine."""
    height = part.height_mm
    if not _open(part, "sagittal") or height is None:
        return part
    others = [one for one in beside if same_frame(one, part)]
    if any(_is_above(height, one.height_mm) for one in others):
        return _doubted(part, "above another stack")
    alone = not any(one.height_mm and _is_above(one.height_mm, height) for one in others)
    if part.verdict.body == SEVERAL and alone:
        return _doubted(part, "one station of a spine of which several parts are named")
    return part


def _is_above(one: tuple[float, float], other: tuple[float, float] | None) -> bool:
    """Whether these are different stations: far apart, with little overlap."""
    if other is None or sum(one) / 2 <= sum(other) / 2 + ABOVE_MM:
        return False
    return other[1] - one[0] < MOST_SHARED * (one[1] - one[0])


def _by_sagittal(part: Part, beside: Sequence[Part]) -> Part:
    """Read an axial stack only at the height of a sagittal one."""
    if not _open(part, "axial"):
        return part
    if not beside:
        return _doubted(part, "no sagittal series of a spine beside it")
    heights = [one.height_mm for one in beside if same_frame(one, part) and one.height_mm]
    at = part.positions_mm
    if heights and at:
        middle = at[len(at) // 2]
        low, high = min(low for low, _ in heights), max(high for _, high in heights)
        if not low - BESIDE_MM <= middle <= high + BESIDE_MM:
            return _doubted(part, "not at the height of the sagittal series")
    return part


def _doubted(part: Part, why: str) -> Part:
    reader = part.verdict.reader
    assert isinstance(reader, Group)
    said = f"{why}, and nothing says that it is a lumbar spine"
    return replace(part, verdict=Verdict(UNKNOWN, said, (reader,)))


def _by_what_is_left(parts: list[Part]) -> list[Part]:
    """In a study without times, assign parts of unknown kind to the kind that is left over."""
    if any(one.acquisition.has_times for part in parts for one in part.frames):
        return parts
    told = {part.verdict.reader for part in parts}
    left = [group for group in (SPINAL, FORAMINAL) if group not in told]
    silent = [part for part in parts if part.verdict.why == SAYS_NOTHING]
    by_plane: dict[str | None, Group | None] = {
        "sagittal": left[0] if len(left) == 1 else None,
        "axial": SUBARTICULAR,
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
    """A part of unknown kind is no fault if every kind that it could be is read."""
    could_be = set(part.verdict.could_be)
    if part.verdict.reader is UNKNOWN and could_be and could_be <= set(found):
        return replace(part, verdict=replace(part.verdict, reader=NOBODYS))
    return part


# Parts -> records


@dataclass(frozen=True, slots=True)
class _Told:
    """Parts of one series that become one record, named like the first part."""

    parts: Sequence[Part]
    reader: Group | Reason
    why: str


def _told_parts(
    kept: Iterable[Part],
    copies: Iterable[tuple[Part, Part]],
    rest: Iterable[Part],
) -> list[_Told]:
    told: list[_Told] = []
    merged: dict[tuple[object, ...], list[Part]] = {}
    for part in kept:
        listed = part.verdict.why in BY_TABLE
        merged.setdefault((part.series, part.verdict.reader, listed), []).append(part)
    chosen_as: dict[Part, _Told] = {}
    for parts in merged.values():
        one = _Told(parts, parts[0].verdict.reader, _largest(parts).verdict.why)
        told.append(one)
        chosen_as |= dict.fromkeys(parts, one)
    for part, other in copies:
        slices = sum(len(one.frames) for one in chosen_as[other].parts)
        why = f"{part.verdict.why}; another of {slices} slices shows the same anatomy"
        told.append(_Told([part], Reason.SAME_ANATOMY, why))
    refused: dict[tuple[object, ...], list[Part]] = {}
    for part in rest:
        refused.setdefault((part.series, *part.verdict.sort), []).append(part)
    told += (_Told(of, of[0].verdict.reader, of[0].verdict.why) for of in refused.values())
    return told


def _as_series(
    study_id: str,
    told: Sequence[_Told],
    names: Mapping[str, str],
    shown: Mapping[str, str],
) -> tuple[list[Series], list[Skip]]:
    series, skips = [], []
    for one in told:
        key = one.parts[0].series
        name = min((part.name for part in one.parts), key=natural_key)
        made = _series(study_id, name, one)
        series.append(made)
        if isinstance(one.reader, Reason):
            what = shown[key] + name.removeprefix(names[key])
            skips.append(Skip(one.reader, what, f"series of {len(made.files)} files: {one.why}"))
    counts = Counter(one.parts[0].series for one in told)
    for key in dict.fromkeys(o.parts[0].series for o in told if isinstance(o.reader, Group)):
        if counts[key] > 1:
            why = f"one series by its UID, {counts[key]} by headers"
            skips.append(Skip(Reason.REGROUPED, shown[key], why))
    return sorted(series, key=lambda one: natural_key(one.series_id)), skips


def _largest(parts: Sequence[Part]) -> Part:
    return max(parts, key=lambda part: len(part.frames))


def _series(study_id: str, name: str, told: _Told) -> Series:
    group = told.reader if isinstance(told.reader, Group) else None
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
        _group_from(told.why),
        tuple(sorted(frames, key=lambda path: natural_key(path.as_posix()))),
        frames={path: frozenset(frames[path]) for path in partly},
        facts=_facts(told.parts),
        why=told.why if _body_told(told) else f"{told.why}; {NO_BODY_PART}",
    )


def _group_from(why: str) -> str:
    if why in BY_TABLE:
        return FROM_TABLE
    return FROM_OTHERS if why == LEFT_OVER else FROM_HEADER


def _body_told(told: _Told) -> bool:
    """Whether a header names the body part, or the body part does not matter."""
    first = _largest(told.parts).verdict
    return first.body_told or not isinstance(told.reader, Group)


def _facts(parts: Sequence[Part]) -> Facts:
    part = _largest(parts)
    slices = sum(len(one.frames) for one in parts)
    return _as_facts(part.header, part.acquisition, part.plane, slices, part.gap_mm)


def facts_of(header: Header, slices: int) -> Facts:
    """The facts of a series from the header of one of its files."""
    plane = plane_of(header.orientation) if header.orientation else None
    return _as_facts(header, header.acquisitions[0], plane, slices, None)


def _as_facts(
    header: Header, how: Acquisition, plane: str | None, slices: int, gap_mm: float | None
) -> Facts:
    return Facts(
        plane=plane,
        slices=slices,
        rows=header.rows,
        columns=header.columns,
        spacing_mm=header.spacing_mm,
        gap_mm=gap_mm,
        echo_ms=how.echo_ms,
        repetition_ms=how.repetition_ms,
        inversion_ms=how.inversion_ms,
        description=how.description,
    )
