"""``slices.csv`` of a group: every slice, in order, with the outcome for each of its points.

It is the index of the finished data set and the journal while the data set is made: a line is added
after the slice's files are closed. A preparation that was killed continues after the last valid
line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.train.dataset.slice_images import USED, SliceJob, SliceOutcome, Standing

NAME = "slices.csv"
_HEADER = "name,part,image_bytes,standing,points\n"
_USED_WORD = "used"


def read_outcomes(path: Path, jobs: Sequence[SliceJob]) -> list[SliceOutcome]:
    """The outcomes of the first jobs, up to the first line or file that does not match its job.

    The rest of the file is cut off, so that new lines can be added.
    """
    lines = path.read_text("utf-8", "replace").splitlines(keepends=True) if path.exists() else []
    outcomes = []
    for line, job in zip(lines[1:], jobs, strict=False):
        outcome = _outcome(line, job)
        if outcome is None:
            break
        outcomes.append(outcome)
    write_atomically(path, "".join([_HEADER, *lines[1 : 1 + len(outcomes)]]))
    return outcomes


def record(
    path: Path, jobs: Iterable[SliceJob], outcomes: Iterable[SliceOutcome]
) -> Iterator[SliceOutcome]:
    """Pass the outcomes on, each after its line is in the file."""
    with path.open("a", encoding="utf-8", newline="\n") as stream:
        for job, outcome in zip(jobs, outcomes, strict=True):
            words = " ".join(reason or _USED_WORD for reason in outcome.reasons)
            cells = (job.name, job.part, outcome.image_bytes, outcome.standing, words)
            stream.write(",".join(map(str, cells)) + "\n")
            stream.flush()
            yield outcome


def _outcome(line: str, job: SliceJob) -> SliceOutcome | None:
    """None if the line was cut short or belongs to another slice, or a file is missing."""
    cells = line.removesuffix("\n").split(",")
    if not line.endswith("\n") or len(cells) != 5 or cells[:2] != [job.name, job.part]:
        return None
    if not cells[2].isdecimal() or cells[3] not in set(Standing):
        return None
    reasons = tuple(USED if word == _USED_WORD else word for word in cells[4].split())
    outcome = SliceOutcome(reasons, int(cells[2]), Standing(cells[3]))
    return outcome if len(reasons) == len(job.points) and _files_hold(job, outcome) else None


def _files_hold(job: SliceJob, outcome: SliceOutcome) -> bool:
    if outcome.image_bytes == 0:
        return True
    try:
        labelled = job.label.stat().st_size > 0 or USED not in outcome.reasons
        return labelled and job.image.stat().st_size == outcome.image_bytes
    except FileNotFoundError:
        return False
