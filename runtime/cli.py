"""``rsna-run``: DICOM in, submission out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsna_lumbar.runtime.command_line import common_options, entry_point
from rsna_lumbar.runtime.errors import LumbarError, UsageError

if TYPE_CHECKING:
    from rsna_lumbar.runtime.discovery import Inventory
    from rsna_lumbar.runtime.outputs import RunRecord
    from rsna_lumbar.runtime.scoring import Scorer, StudyScore

COMPLETE, INCOMPLETE = 0, 3
SHOWN_SKIPS = 20
_VERB = {
    "series_missing": "filled from the prior",
    "no_readable_slice": "filled from the prior",
    "no_series_to_score": "no rows",
    "series_not_found": "missing",
}
DEMO_OUTPUT = Path("submission.csv")


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
            "strict": self.strict,
        }


@click.command()
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle made by rsna-export.")
@click.option("--output", type=click.Path(path_type=Path), help="Submission to write (CSV).")
@click.option("--demo", is_flag=True, help="Score the phantom studies that ship in the package.")
@click.option(
    "--series",
    type=click.Path(path_type=Path),
    help="CSV with study_id, series_id, series_description.",
)
@click.option(
    "--studies",
    type=click.Path(path_type=Path),
    help="CSV with study_id: score these studies only, such as one fold of rsna-train prepare.",
)
@click.option(
    "--backend",
    default="auto",
    show_default=True,
    help="auto (the fastest that the bundle measured and this machine can run), onnxruntime, "
    "openvino, tensorrt or tensorrt-rtx.",
)
@click.option(
    "--precision", default="auto", show_default=True, help="auto, fp32, fp16, bf16, int8."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@click.option("--batch-size", type=click.IntRange(1), help="Slices in a batch.")
@click.option("--workers", type=click.IntRange(0), help="Decoding processes.")
@click.option(
    "--evidence",
    type=click.Path(path_type=Path),
    help="Also write where each peak came from (JSON lines).",
)
@click.option("--trust", is_flag=True, help="Open engines that were not built here. They are code.")
@click.option("--strict", is_flag=True, help="Write nothing unless everything could be scored.")
@click.option(
    "--quiet", is_flag=True, help="Say nothing but errors; the run manifest has the rest."
)
@common_options
def cli(
    data: Path | None,
    bundle: Path | None,
    output: Path | None,
    demo: bool,
    series: Path | None,
    studies: Path | None,
    backend: str,
    precision: str,
    device: str,
    batch_size: int | None,
    workers: int | None,
    evidence: Path | None,
    trust: bool,
    strict: bool,
    quiet: bool,
) -> int:
    """Score the lumbar MR studies below DATA: 25 rows a study.

    DATA is a root of the challenge's data, one study of it, or any tree of DICOM files. Beside
    the submission stands <name>.run.json: what was used, what was skipped, and why.

    Exit codes: 0 all scored; 3 finished, but a file could not be used or a series was missing;
    2 wrong usage; 1 failure. Research use only, not a medical device.
    """
    if demo:
        from rsna_lumbar.runtime.demo import demo_bundle, demo_studies

        if data or bundle:
            raise UsageError("--demo brings its own data and bundle; leave DATA and --bundle out")
        data, bundle, output = demo_studies(), demo_bundle(), output or DEMO_OUTPUT
    if data is None or bundle is None or output is None:
        missing = "DATA" if data is None else "--bundle" if bundle is None else "--output"
        raise UsageError(f"{missing} is missing; give DATA, --bundle and --output, or try --demo")
    request = Request(
        data, bundle, output, evidence, series, studies, backend, precision, device, batch_size,
        workers, trust, strict, quiet, tables=demo,
    )  # fmt: skip
    return run(request)


def run(request: Request) -> int:
    """Score what the request names; return the exit code."""
    from rsna_lumbar.runtime.discovery import find_studies, read_study_list
    from rsna_lumbar.runtime.outputs import RunRecord
    from rsna_lumbar.runtime.scoring import Scorer

    _check_targets(request)
    wanted = read_study_list(request.studies) if request.studies else None
    with _Progress("reading headers", "file", total=None, quiet=request.quiet) as step:
        inventory = find_studies(request.data, request.series, step, wanted)
    record = RunRecord(inventory)
    with Scorer(
        request.bundle,
        backend=request.backend,
        precision=request.precision,
        device=request.device,
        batch_size=request.batch_size,
        trust=request.trust,
    ) as scorer:
        note = f" ({scorer.note})" if scorer.note else ""
        _say(request, f"{scorer.candidate.variant} on {scorer.device}{note}")
        _write_results(request, inventory, scorer, record)
    for line in _skip_lines(record):
        _say(request, line)
    _say(request, _summary(request, inventory, record))
    return COMPLETE if record.complete else INCOMPLETE


def _write_results(
    request: Request, inventory: Inventory, scorer: Scorer, record: RunRecord
) -> None:
    from rsna_lumbar.runtime.files import atomic_text
    from rsna_lumbar.runtime.outputs import evidence_lines, submission_header, submission_lines
    from rsna_lumbar.runtime.sets import default_workers

    with ExitStack() as stack:
        submission = stack.enter_context(atomic_text(request.output))
        evidence = stack.enter_context(atomic_text(request.evidence)) if request.evidence else None
        manifest = stack.enter_context(atomic_text(_manifest_path(request.output)))
        submission.write(submission_header())
        step = stack.enter_context(
            _Progress("scoring", "file", total=inventory.file_count, quiet=request.quiet)
        )
        workers = request.workers
        if workers is None:
            workers = default_workers(inventory.file_count)
        for score in scorer.score(inventory, workers=workers, progress=step):
            submission.write(submission_lines(score))
            if evidence:
                evidence.write(evidence_lines(score, request.data))
            if request.tables and not request.quiet:
                _show(score)
            record.add(score)
        if request.strict and not record.complete:
            for line in _skip_lines(record):
                _say(request, line)
            raise LumbarError("--strict: not everything could be scored, so nothing was written")
        manifest.write(record.manifest(inventory, scorer, request.bundle, request.options()))


def _check_targets(request: Request) -> None:
    """Refuse, before any work, what cannot be written or must not be overwritten."""
    targets = {"--output": request.output, "run manifest": _manifest_path(request.output)}
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


def _manifest_path(output: Path) -> Path:
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


def _summary(request: Request, inventory: Inventory, record: RunRecord) -> str:
    filled = f", {len(record.filled)} groups filled from the prior" if record.filled else ""
    faults = sum(1 for skip in record.skips if not skip.harmless)
    skipped = f", {faults} skipped or missing" if faults else ""
    return (
        f"{record.studies} of {len(inventory.studies)} studies scored ({record.slices} slices, "
        f"{record.rows} rows{filled}{skipped}) -> {request.output}"
    )


def _say(request: Request, line: str) -> None:
    if not request.quiet:
        click.echo(line, err=True)


def _show(score: StudyScore) -> None:
    from rsna_lumbar.runtime.outputs import study_table

    click.echo(study_table(score) + "\n")


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


main = entry_point(cli, "rsna-run")
