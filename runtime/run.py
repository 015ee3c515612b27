"""One run of ``rsna-run``: everything between the command line and the exit code.

Models load in a thread of their own; meanwhile folders are listed, decoding processes start, and
the first studies are decoded. Rows are written while later batches are computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from rsna_lumbar.runtime.bundle import Bundle, read_bundle
from rsna_lumbar.runtime.choice import Wanted, choose
from rsna_lumbar.runtime.cores import usable_cores
from rsna_lumbar.runtime.errors import BundleError, LumbarError, UsageError
from rsna_lumbar.runtime.files import atomic_text
from rsna_lumbar.runtime.machine import CPU, this_machine
from rsna_lumbar.runtime.open_bundle import OpenBundle
from rsna_lumbar.runtime.trust import TrustedEngines

if TYPE_CHECKING:  # what reads DICOM is loaded beside the models
    from rsna_lumbar.runtime.discovery import StudyStream
    from rsna_lumbar.runtime.outputs import RunRecord
    from rsna_lumbar.runtime.scores import StudyScore
    from rsna_lumbar.runtime.sets import SliceSet

COMPLETE, INCOMPLETE = 0, 3
SHOWN_SKIPS = 20
SETS_BEFORE_MODELS = 12  # decoded while the models load: four studies, 300 slices
_VERB = {
    "series_missing": "filled from the prior",
    "no_readable_slice": "filled from the prior",
    "no_series_to_score": "no rows",
    "series_not_found": "missing",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    data: Path
    bundle: Path
    output: Path
    evidence: Path | None
    series: Path | None
    studies: Path | None
    backend: str
    precision: str
    device: str
    batch_size: int | None
    workers: int | None
    threads: int | None
    slices: str
    trust: bool
    strict: bool
    quiet: bool
    tables: bool  # print each study as a table

    def options(self) -> dict[str, Any]:
        """What the run manifest records of it."""
        return {
            "data": str(self.data),
            "bundle": str(self.bundle),
            "series": str(self.series) if self.series else None,
            "studies": str(self.studies) if self.studies else None,
            "backend": self.backend,
            "precision": self.precision,
            "trust": self.trust,
            "device": self.device,
            "workers": self.workers,
            "threads": self.threads,
            "slices": self.slices,
            "strict": self.strict,
        }


def run(request: Request) -> int:
    """Score what the request names; return the exit code."""
    _check_targets(request)
    bundle = read_bundle(request.bundle)
    threads = request.threads or usable_cores()
    on_gpu = _device(request, bundle) != CPU
    with ExitStack() as stack:
        opening = stack.enter_context(_opened_aside(request, threads))
        from rsna_lumbar.runtime.discovery import read_study_list, stream_studies
        from rsna_lumbar.runtime.outputs import RunRecord
        from rsna_lumbar.runtime.scoring import decoded_sets, scored

        wanted = read_study_list(request.studies) if request.studies else None
        with _Progress("reading headers", "file", total=None, quiet=request.quiet) as step:
            found = stream_studies(request.data, request.series, step, wanted)
        here, ahead, workers = _looked_at(found, request.workers, on_gpu=on_gpu)
        sets = stack.enter_context(
            closing(decoded_sets(bundle, ahead, workers=workers, slices=request.slices))
        )
        first = _until_opened(opening, sets)
        opened = opening.result()
        if _decoding_of(opened.bundle) != _decoding_of(bundle):
            raise BundleError(f"{request.bundle} was replaced while it was opened; start again")
        _say(request, _choice_line(opened))
        record = RunRecord(found, {**request.options(), "workers": workers, "threads": threads})
        scores = scored(opened, here, chain(_let_go(first), sets))
        _write_results(request, scores, opened, record)
    for line in _skip_lines(record):
        _say(request, line)
    _say(request, _summary(request, record))
    return COMPLETE if record.complete else INCOMPLETE


def _device(request: Request, bundle: Bundle) -> str:
    """Where the models will most likely run; what cannot be had is told before anything is read."""
    wanted = Wanted(request.backend, request.precision, request.device, request.batch_size)
    trusted = None if request.trust else TrustedEngines()
    return choose(bundle, this_machine(), wanted, trusted).candidates[0].device


@contextmanager
def _opened_aside(request: Request, threads: int) -> Iterator[Future[OpenBundle]]:
    """The bundle as a thread opens it; closed in the end."""

    def open_bundle() -> OpenBundle:
        return OpenBundle(
            request.bundle,
            backend=request.backend,
            precision=request.precision,
            device=request.device,
            batch_size=request.batch_size,
            threads=threads,
            trust=request.trust,
        )

    with ThreadPoolExecutor(1, "opening") as aside:
        opening = aside.submit(open_bundle)
        try:
            yield opening
        finally:
            if opening.exception() is None:
                opening.result().close()


def _looked_at(
    found: StudyStream, workers: int | None, *, on_gpu: bool
) -> tuple[StudyStream, StudyStream, int]:
    """The studies twice, for decoding and for scoring, and how many processes suit them.

    Only as many are looked at as tell a small job from a large one.
    """
    from rsna_lumbar.runtime.decoding import FILES_WORTH_A_POOL, default_workers
    from rsna_lumbar.runtime.discovery import StudyStream

    first = []
    if workers is None:
        files = 0
        for study in found.studies:
            first.append(study)
            files += study.file_count
            if files >= FILES_WORTH_A_POOL:
                break
        workers = default_workers(files, on_gpu=on_gpu)
    here, ahead = (
        StudyStream(found.data, found.count, found.strays, studies)
        for studies in tee(chain(first, found.studies))
    )
    return here, ahead, workers


def _until_opened(opening: Future[OpenBundle], sets: Iterator[SliceSet]) -> deque[SliceSet]:
    """Sets that were decoded while the models were loading."""
    first: deque[SliceSet] = deque()
    while not opening.done() and len(first) < SETS_BEFORE_MODELS:
        one = next(sets, None)
        if one is None:
            break
        first.append(one)
    return first


def _let_go(sets: deque[SliceSet]) -> Iterator[SliceSet]:
    """Each set in turn, kept here no longer."""
    while sets:
        yield sets.popleft()


def _decoding_of(bundle: Bundle) -> tuple[object, ...]:
    """What of a bundle decoding depends on."""
    return (bundle.preprocessing, *((one.group, one.size_px) for one in bundle.detectors))


def _write_results(
    request: Request, scores: Iterator[StudyScore], opened: OpenBundle, record: RunRecord
) -> None:
    from rsna_lumbar.runtime.outputs import submission_header

    with ExitStack() as stack:
        submission = stack.enter_context(atomic_text(request.output))
        evidence = stack.enter_context(atomic_text(request.evidence)) if request.evidence else None
        manifest = stack.enter_context(atomic_text(manifest_path(request.output)))
        submission.write(submission_header())
        step = stack.enter_context(
            _Progress("scoring", "study", total=record.found, quiet=request.quiet)
        )
        for score in scores:
            _write_study(request, score, submission, evidence)
            record.add(score)
            step(1)
        if request.strict and not record.complete:
            for line in _skip_lines(record):
                _say(request, line)
            raise LumbarError("--strict: not everything could be scored, so nothing was written")
        manifest.write(record.manifest(opened, request.bundle))


def _write_study(
    request: Request, score: StudyScore, submission: TextIO, evidence: TextIO | None
) -> None:
    from rsna_lumbar.runtime.outputs import evidence_lines, study_table, submission_lines

    submission.write(submission_lines(score))
    if evidence:
        evidence.write(evidence_lines(score, request.data))
    if request.tables and not request.quiet:
        click.echo(study_table(score) + "\n")


def _check_targets(request: Request) -> None:
    """Refuse, before any work, what cannot be written or must not be overwritten."""
    targets = {"--output": request.output, "run manifest": manifest_path(request.output)}
    if request.evidence:
        targets["--evidence"] = request.evidence
    kept = {request.series.resolve()} if request.series else set()
    for name, path in targets.items():
        if path.exists() and not path.is_file():
            raise UsageError(f"{name} {path} is no regular file; name another")
        if not path.parent.is_dir():
            raise UsageError(f"the folder {path.parent} of {name} is not there; make it first")
        if path.resolve() in kept:
            raise UsageError(f"{name} {path} is another file of this run; name another")
        kept.add(path.resolve())


def manifest_path(output: Path) -> Path:
    """Where the run manifest of a submission stands."""
    return output.with_suffix(".run.json")


def _skip_lines(record: RunRecord) -> list[str]:
    faults = [skip for skip in record.skips if not skip.harmless]
    harmless = [skip for skip in record.skips if skip.harmless]
    lines = [
        _printable(
            f"{_VERB.get(skip.reason, 'skipped')}: {skip.what}: {skip.reason}"
            f"{f' ({skip.detail})' if skip.detail else ''}"
        )
        for skip in (*faults, *harmless)[:SHOWN_SKIPS]
    ]
    more = len(record.skips) - len(lines)
    return [*lines, f"... and {more} more, all in the run manifest"] if more > 0 else lines


def _printable(text: str) -> str:
    """Without what a name or a header could send to the terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _choice_line(opened: OpenBundle) -> str:
    note = f" ({opened.note})" if opened.note else ""
    return f"{opened.candidate.variant} on {opened.device}{note}"


def _summary(request: Request, record: RunRecord) -> str:
    filled = f", {len(record.filled)} groups filled from the prior" if record.filled else ""
    faults = sum(1 for skip in record.skips if not skip.harmless)
    skipped = f", {faults} skipped or missing" if faults else ""
    return (
        f"{record.studies} of {record.found} studies scored ({record.slices} slices, "
        f"{record.rows} rows{filled}{skipped}) -> {request.output}"
    )


def _say(request: Request, line: str) -> None:
    if not request.quiet:
        click.echo(line, err=True)


class _Progress:
    """A bar on standard error where that is a terminal; nothing where it is not, or is unwanted."""

    def __init__(self, title: str, unit: str, *, total: int | None, quiet: bool) -> None:
        from tqdm import tqdm

        disable = True if quiet else None  # None: only where standard error is no terminal
        self._bar = tqdm(desc=title, unit=f" {unit}", total=total, disable=disable, leave=False)

    def __enter__(self) -> Callable[[int], object]:
        return self._bar.update

    def __exit__(self, *_: object) -> None:
        self._bar.close()
