"""``rsna-run --list``: all series, the detector that reads each, and why, without reading pixels.

The CSV has the form of ``--series``: the user corrects its series_description and runs again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.runtime.core.csv_cells import csv_line
from rsna_lumbar.runtime.core.errors import DataError, UsageError
from rsna_lumbar.runtime.core.labels import GROUPS, kind_of
from rsna_lumbar.runtime.core.reasons import Skip
from rsna_lumbar.runtime.core.text_table import aligned
from rsna_lumbar.runtime.run.console import Console, printable
from rsna_lumbar.runtime.run.output_files import SUBMISSION
from rsna_lumbar.runtime.run.output_paths import own_files_of_list, require_no_input
from rsna_lumbar.runtime.run.pseudonyms import HASH, Names, Pseudonyms, paths_hidden
from rsna_lumbar.runtime.studies.finder import nothing_to_score, stream_studies
from rsna_lumbar.runtime.studies.study import Facts, Study
from rsna_lumbar.runtime.studies.tables import TABLE_COLUMNS, read_study_list
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.entry_point import echo

COMPLETE, INCOMPLETE = 0, 3
SHOWN = 20  # lines about missing series and studies
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
    """Print one table per study, and write the CSV if one is requested.

    Returns:
        0; or 3 if a run would have faults: a file or series that it cannot use, a study that lacks
        a series kind or has nothing to read, or one that a table asks for and that does not exist.

    Raises:
        DataError: there is no study.
        UsageError: the CSV cannot or must not be written.
    """
    if request.ids == HASH and request.output:
        raise UsageError(
            "--list --output is not for --ids hash: no table of series could name them by its "
            "pseudonyms; leave out --ids hash, or --output"
        )
    if request.ids != HASH:
        return _list(request)
    with paths_hidden(request.data, request.series, request.studies):
        return _list(request)


def _list(request: ListRequest) -> int:
    console = Console(quiet=request.quiet)
    hashed = request.ids == HASH
    names = Pseudonyms() if hashed else Names()
    tables = (request.series, request.studies)
    own = own_files_of_list(request.output, *tables) if request.output else frozenset()
    wanted = read_study_list(request.studies) if request.studies else None
    with console.progress("reading headers", "file", total=None) as step:
        ids = None if hashed else request.ids
        found = stream_studies(request.data, request.series, step, wanted, ids, own)
    if request.output:
        require_no_input({SUBMISSION: request.output}, found)
    skips: list[Skip] = list(found.strays)
    lacks: list[str] = []
    rows = [csv_line(COLUMNS)]
    for study in found.studies:
        skips += study.skips
        lacks += _lacks(study, names(study.study_id))
        echo(_table(study, names, hashed=hashed) + "\n")
        rows += [csv_line(row) for row in _rows(study, names, hashed=hashed)]
    for line in (*_by_reason(skips), *_first(lacks)):
        console.say(line)
    if not found.ids:
        raise DataError(nothing_to_score(found))
    if request.output:
        write_atomically(request.output, "\n".join(rows) + "\n")
        console.say(f"{len(rows) - 1} series -> {request.output}")
    whole = not lacks and all(skip.harmless for skip in skips)
    return COMPLETE if whole else INCOMPLETE


def _lacks(study: Study, name: str) -> list[str]:
    """What a run would fill from the prior, or give no rows to."""
    missing = [group.series_kind for group in GROUPS if not study.of(group)]
    if len(missing) == len(GROUPS):
        return [f"missing: {name}: {'every kind' if study.listed else 'every kind, so no rows'}"]
    return [f"missing: {name}: {kind}" for kind in missing]


def _first(lines: Sequence[str]) -> Iterator[str]:
    yield from map(printable, lines[:SHOWN])
    if len(lines) > SHOWN:
        yield f"... and {len(lines) - SHOWN} more are missing"


def _table(study: Study, names: Names, *, hashed: bool) -> str:
    """A study as a table for the user: its series, the detectors that read them, and why."""
    titles = ("read as", "series", "plane", "files", "size", "TE", "TR", "TI", "description", "why")
    cells = [
        (
            kind_of(one.group) or NOBODY,
            names(one.series_id),
            *_shown(one.facts, len(one.files)),
            "" if hashed or not one.facts else repr(one.facts.description),
            one.why,
        )
        for one in study.series
    ]
    heading = printable(f"Study {names(study.study_id)}")
    shown = [tuple(map(printable, row)) for row in (titles, *cells)]
    return f"{heading}\n{aligned(shown, names=len(titles))}" if cells else heading


def _shown(facts: Facts | None, files: int) -> tuple[str, ...]:
    if facts is None:
        return ("", str(files), "", "", "", "")
    times = (facts.echo_ms, facts.repetition_ms, facts.inversion_ms)
    size = f"{facts.rows}x{facts.columns}"
    return (facts.plane or "", str(files), size, *map(_number, times))


def _rows(study: Study, names: Names, *, hashed: bool) -> Iterator[Sequence[str]]:
    for one in study.series:
        head = (names(study.study_id), names(one.series_id), kind_of(one.group))
        files, facts = str(len(one.files)), one.facts
        if facts is None:
            yield (*head, "", files, *[""] * 9, one.group_from, one.why)
            continue
        numbers = (facts.gap_mm, facts.echo_ms, facts.repetition_ms, facts.inversion_ms)
        yield (
            *(*head, facts.plane or "", files),
            *map(str, (facts.slices, facts.rows, facts.columns)),
            " x ".join(map(_number, facts.spacing_mm or ())),
            *map(_number, numbers),
            "" if hashed else facts.description,
            *(one.group_from, one.why),
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{round(value, 3):g}"


def _by_reason(skips: Sequence[Skip]) -> Iterator[str]:
    """What a run would leave out or miss, counted by reason."""
    for (reason, harmless), count in sorted(Counter((s.reason, s.harmless) for s in skips).items()):
        yield f"{count} {reason}{'' if harmless else ' (a fault of a run)'}"
