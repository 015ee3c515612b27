"""Output of a run on standard error: progress, and a few lines about the result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.core.reasons import Skip
from rsna_lumbar.runtime.inference.loaded_bundle import OpenBundle
from rsna_lumbar.runtime.studies.study import NO_BODY_PART
from rsna_lumbar.runtime.system.entry_point import echo

if TYPE_CHECKING:
    from rsna_lumbar.runtime.run.manifest import RunRecord

SHOWN_SKIPS = 20
_VERB = {
    "series_missing": "filled from the prior",
    "no_readable_slice": "filled from the prior",
    "no_series_to_score": "no rows",
    "series_not_found": "missing",
    "zero_tail": "scored, but doubtful",
}

_SAID_ONCE = ("no_detector",)  # reported once by missing_groups_line


class Console:
    """Standard error of a run.

    Args:
        quiet: print nothing except errors.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def say(self, line: str) -> None:
        """Print one line."""
        if not self.quiet:
            echo(line, err=True)

    @contextmanager
    def progress(
        self, title: str, unit: str, *, total: int | None, done: int = 0
    ) -> Iterator[Callable[[int], object]]:
        """A progress bar if standard error is a terminal; yields the function that moves it."""
        from tqdm import tqdm

        # tqdm shares its own lock with forked processes: one killed while it holds the lock stops
        # all others.
        tqdm.set_lock(threading.RLock())
        disable = self.quiet or None  # None: show the bar only if standard error is a terminal
        with tqdm(
            desc=title, unit=f" {unit}", total=total, initial=done, disable=disable, leave=False
        ) as bar:
            yield bar.update

    def outcome(self, record: RunRecord, output: Path) -> None:
        """Print what rests on the prior alone, what was skipped, and what was scored."""
        for line in record.warnings:
            self.say(line)
        self.skips(record)
        if count := record.total.without_orientation:
            self.say(f"slices without ImageOrientationPatient, scored as they are stored: {count}")
        if count := record.total.without_body_part:
            self.say(f"{count} of {record.found} studies: {NO_BODY_PART}")
        self.say(_summary(record, output))

    def skips(self, record: RunRecord) -> None:
        """Print the first skips, faults before the others."""
        for line in _skip_lines(record):
            self.say(line)


def _skip_lines(record: RunRecord) -> list[str]:
    faults = [skip for skip in record.total.skips if not skip.harmless]
    harmless = [s for s in record.total.skips if s.harmless and s.reason not in _SAID_ONCE]
    lines = [skip_line(skip) for skip in (*faults, *harmless)[:SHOWN_SKIPS]]
    more = len(faults) + len(harmless) - len(lines)
    return [*lines, f"... and {more} more, all in the run manifest"] if more > 0 else lines


def skip_line(skip: Skip) -> str:
    """One skip and its reason."""
    detail = f" ({skip.detail})" if skip.detail else ""
    return printable(f"{_VERB.get(skip.reason, 'skipped')}: {skip.what}: {skip.reason}{detail}")


def printable(text: str) -> str:
    """The text without characters of a name or header that could control the terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def choice_line(opened: OpenBundle) -> str:
    note = f" ({opened.note})" if opened.note else ""
    return f"{opened.candidate.variant} on {opened.device}{note}"


def missing_groups_line(bundle: Bundle) -> str:
    """Which groups a bundle does not score; empty if it has all of them."""
    missing = bundle.missing_groups
    if not missing:
        return ""
    names = " and ".join(group.name for group in missing)
    kinds = " and ".join(group.series_kind for group in missing)
    return f"the bundle has no {names} detector: {kinds} series are not read and get no rows"


def _summary(record: RunRecord, output: Path) -> str:
    total = record.total
    notes = (
        (len(total.filled), "groups filled from the prior"),
        (len(total.uncovered), "rows filled from the prior"),
        (len(total.plain), "groups scored without positions"),
        (sum(1 for skip in total.skips if not skip.harmless), "skipped or missing"),
    )
    told = "".join(f", {count} {what}" for count, what in notes if count)
    alone = f", {total.prior_studies} of the prior alone" if total.prior_studies else ""
    return (
        f"{total.studies} of {record.found} studies scored{alone} "
        f"({total.slices} slices, {total.rows} rows{told}) -> {output}"
    )
