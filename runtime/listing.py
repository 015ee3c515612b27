"""``rsna-run --list``: which series there are, who reads each, and why, without reading pixels.

The CSV has the form of ``--series``: a person corrects its series_description and runs again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.runtime.command_line import echo
from rsna_lumbar.runtime.console import Console, printable
from rsna_lumbar.runtime.discovery import nothing_to_score, stream_studies
from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.files import write_atomically
from rsna_lumbar.runtime.labels import kind_of
from rsna_lumbar.runtime.naming import HASH, Names, Pseudonyms, csv_line, paths_hidden
from rsna_lumbar.runtime.reasons import Skip
from rsna_lumbar.runtime.studies import Facts, Study
from rsna_lumbar.runtime.tables import TABLE_COLUMNS, read_study_list
from rsna_lumbar.runtime.text_table import aligned

COMPLETE, INCOMPLETE = 0, 3
COLUMNS = (
    *TABLE_COLUMNS,
    "plane",
    "files",
    "slices",
    "rows",
    "columns",
    "spacing_mm",
    "gap_mm",
    "echo_ms",
    "repetition_ms",
    "inversion_ms",
    "description_in_header",
    "kind_from",
    "why",
)
NOBODY = "-"


@dataclass(frozen=True, slots=True)
class ListRequest:
    """What to list, and where to write it."""

    data: tuple[Path, ...]
    series: Path | None
    studies: Path | None
    ids: str | None
    output: Path | None  # CSV
    quiet: bool


def list_series(request: ListRequest) -> int:
    """Print a table a study, and write the CSV where one is asked for.

    Returns:
        0, or 3 where a run would find something that it cannot use, or a kind missing.

    Raises:
        DataError: there is no study, or the CSV lies among the inputs.
    """
    if request.ids != HASH:
        return _list(request)
    with paths_hidden(request.data, request.series, request.studies):
        return _list(request)


def _list(request: ListRequest) -> int:
    console = Console(quiet=request.quiet)
    hashed = request.ids == HASH
    names = Pseudonyms() if hashed else Names()
    wanted = read_study_list(request.studies) if request.studies else None
    with console.progress("reading headers", "file", total=None) as step:
        ids = None if hashed else request.ids
        found = stream_studies(request.data, request.series, step, wanted, ids)
    skips: list[Skip] = list(found.strays)
    rows = [csv_line(COLUMNS)]
    for study in found.studies:
        skips += study.skips
        echo(_table(study, names, hashed=hashed) + "\n")
        rows += [csv_line(row) for row in _rows(study, names, hashed=hashed)]
    for line in _by_reason(skips):
        console.say(line)
    if not found.ids:
        raise DataError(nothing_to_score(found))
    if request.output:
        write_atomically(request.output, "\n".join(rows) + "\n")
        console.say(f"{len(rows) - 1} series -> {request.output}")
    return COMPLETE if all(skip.harmless for skip in skips) else INCOMPLETE


def _table(study: Study, names: Names, *, hashed: bool) -> str:
    """A study as a person reads it: its series, who reads them, and why."""
    titles = ("read as", "series", "plane", "files", "size", "TE", "TR", "TI", "description", "why")
    cells = [
        (
            kind_of(one.group) or NOBODY,
            names(one.series_id),
            *_shown(one.facts, len(one.files)),
            "" if hashed or not one.facts else printable(repr(one.facts.description)),
            one.why,
        )
        for one in study.series
    ]
    heading = f"Study {names(study.study_id)}"
    return f"{heading}\n{aligned([titles, *cells], names=len(titles))}" if cells else heading


def _shown(facts: Facts | None, files: int) -> tuple[str, ...]:
    if facts is None:
        return ("", str(files), "", "", "", "")
    times = (facts.echo_ms, facts.repetition_ms, facts.inversion_ms)
    size = f"{facts.rows}x{facts.columns}"
    return (facts.plane or "", str(files), size, *map(_number, times))


def _rows(study: Study, names: Names, *, hashed: bool) -> Iterator[Sequence[str]]:
    for one in study.series:
        facts = one.facts
        of_facts: tuple[str, ...] = ("",) * 10
        if facts is not None:
            spacing = " x ".join(map(_number, facts.spacing_mm or ()))
            numbers = (facts.gap_mm, facts.echo_ms, facts.repetition_ms, facts.inversion_ms)
            of_facts = (
                str(facts.slices),
                str(facts.rows),
                str(facts.columns),
                spacing,
                *map(_number, numbers),
                "" if hashed else facts.description,
            )
        yield (
            names(study.study_id),
            names(one.series_id),
            kind_of(one.group),
            facts.plane or "" if facts else "",
            str(len(one.files)),
            *of_facts[:9],
            one.group_from,
            one.why,
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{round(value, 3):g}"


def _by_reason(skips: Sequence[Skip]) -> Iterator[str]:
    """What a run would leave out or miss, counted."""
    for (reason, harmless), count in sorted(Counter((s.reason, s.harmless) for s in skips).items()):
        yield f"{count} {reason}{'' if harmless else ' (a fault of a run)'}"
