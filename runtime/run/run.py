"""One run of ``rsna-run``: everything between the command line and the exit code.

Models load in a separate thread. Meanwhile folders are listed, decoding processes start, and the
first studies are decoded. Rows are written while later batches are computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.core.errors import BundleError, DataError, LumbarError
from rsna_lumbar.runtime.inference.loaded_bundle import OpenBundle
from rsna_lumbar.runtime.inference.plan import Plan, plan_for
from rsna_lumbar.runtime.inference.selection import Wanted
from rsna_lumbar.runtime.run.console import Console, choice_line, missing_groups_line
from rsna_lumbar.runtime.run.fingerprint import asked_for, found_out
from rsna_lumbar.runtime.run.output_files import KEY, RUN_MANIFEST, Results
from rsna_lumbar.runtime.run.output_paths import require_no_input, targets_of
from rsna_lumbar.runtime.run.pseudonyms import HASH, Names, Pseudonyms, paths_hidden, read_key
from rsna_lumbar.runtime.run.request import Request
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.machine import CPU

if TYPE_CHECKING:  # DICOM code is imported while the models load
    from rsna_lumbar.runtime.decode.slice_sets import SliceSet
    from rsna_lumbar.runtime.studies.study import StudyStream

COMPLETE, INCOMPLETE = 0, 3
SETS_BEFORE_MODELS = 12  # decoded while the models load: four studies, 300 slices


def run(request: Request) -> int:
    """Score what the request names; return the exit code."""
    if request.ids != HASH:
        return _run(request)
    with paths_hidden(request.data, request.series, request.studies):
        return _run(request)


def _run(request: Request) -> int:
    targets = targets_of(request)
    wanted = Wanted(request.backend, request.precision, request.device, request.batch_size)
    plan = plan_for(request.bundle, wanted, trust=request.trust)
    console = Console(quiet=request.quiet)
    threads = request.threads or usable_cores()
    with Results(targets, private={KEY}, resume=request.resume) as results:
        identity = asked_for(request, targets, threads)
        results.require(identity)
        if results.finished:
            console.say(f"everything was scored and written before: {request.output}")
            return results.publish_again()
        try:
            return _score(request, plan, results, identity, console, threads)
        finally:
            if results.done:
                console.say(f"{results.done} studies are done and kept for --resume")


def _score(
    request: Request,
    plan: Plan,
    results: Results,
    identity: Mapping[str, Any],
    console: Console,
    threads: int,
) -> int:
    with ExitStack() as stack:
        if results.batch_size:  # step 6 of inference/scheduler.py
            plan = replace(plan, batch_size=results.batch_size)
        opening = stack.enter_context(_opened_aside(plan, threads))
        from rsna_lumbar.runtime.inference.pipeline import decoded_sets, looked_at, scored
        from rsna_lumbar.runtime.run.manifest import RunRecord
        from rsna_lumbar.runtime.run.resuming import left_to_do
        from rsna_lumbar.runtime.run.writer import Writer

        found = _found(request, console, results.own_files)
        require_no_input(results.targets, found)
        names = _names(request, results)
        rest, stamps = left_to_do(found, results, names)
        sizes = request.sizes
        rest, workers = looked_at(
            rest, request.workers, small_job=sizes.small_job, on_gpu=plan.device != CPU
        )
        here, ahead = rest.twice()
        sets = stack.enter_context(
            closing(decoded_sets(plan.bundle, ahead, workers=workers, slices=request.slices))
        )
        first = _until_opened(opening, sets)
        opened = _result_of(opening, plan)
        console.say(choice_line(opened))
        if line := missing_groups_line(plan.bundle):
            console.say(line)
        options = {**request.options(names), "workers": workers, "threads": threads}
        record = RunRecord(found, options, names, results=results)
        results.begin({**identity, **found_out(opened, found)}, record.started)
        tables = request.tables and not request.quiet
        writer = Writer(
            found, results, names, record, stamps, tables, request.strict, sizes.studies_a_chunk
        )
        with console.progress("scoring", "study", total=found.count, done=results.done) as step:
            decoded = chain(_let_go(first), sets)
            writer.write(scored(opened, here, decoded, sizes.studies_a_chunk), opened, step)
        if request.strict and not record.complete:
            console.skips(record)
            raise LumbarError(
                "--strict: something cannot be scored, or is doubtful, so nothing was written; "
                "mend it, or go on without --strict"
            )
        results.write(RUN_MANIFEST, record.manifest(opened, request.bundle))
        if not record.total.rows:
            console.skips(record)
            results.publish_alone(RUN_MANIFEST)
            (why,) = record.warnings
            where = results.targets[RUN_MANIFEST]
            raise DataError(f"{why}; {where} names what was there; no submission was written")
        exit_code = COMPLETE if record.complete else INCOMPLETE
        results.publish(exit_code)
    console.outcome(record, request.output)
    return exit_code


def _found(request: Request, console: Console, own_files: Collection[Path]) -> StudyStream:
    from rsna_lumbar.runtime.studies.finder import stream_studies
    from rsna_lumbar.runtime.studies.tables import read_study_list

    wanted = read_study_list(request.studies) if request.studies else None
    ids = None if request.ids == HASH else request.ids
    with console.progress("reading headers", "file", total=None) as step:
        return stream_studies(request.data, request.series, step, wanted, ids, own_files)


def _names(request: Request, results: Results) -> Names:
    """How names are written; an earlier key of this submission is reused."""
    if request.ids != HASH:
        return Names()
    if not results.resumed:
        results.write(KEY, read_key(results.targets[KEY]))
    return Pseudonyms(results.kept(KEY))


@contextmanager
def _opened_aside(plan: Plan, threads: int) -> Iterator[Future[OpenBundle]]:
    """Open the models in a thread; they are closed at the end."""
    with ThreadPoolExecutor(1, "opening") as aside:
        opening = aside.submit(OpenBundle, plan, threads=threads)
        try:
            yield opening
        finally:
            if opening.exception() is None:
                opening.result().close()


def _result_of(opening: Future[OpenBundle], plan: Plan) -> OpenBundle:
    """The opened models, or the error that prevented it."""
    try:
        return opening.result()
    except BundleError as error:
        if read_bundle(plan.folder) == plan.bundle:
            raise
        raise BundleError(f"{plan.folder} was replaced while it was opened; start again") from error


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
    """Yield each set and release it."""
    while sets:
        yield sets.popleft()
