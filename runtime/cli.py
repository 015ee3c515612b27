"""The command ``rsna-run``: DICOM in, submission out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.entry_point import common_options, entry_point, typed_parameters

if TYPE_CHECKING:
    from rsna_lumbar.runtime.run.request import Sizes

DEMO_OUTPUT = Path("submission.csv")
OF_LIST = {"data", "demo", "list_only", "output", "series", "studies", "ids", "quiet"}


@click.command()
@click.argument("data", nargs=-1, type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle made by rsna-export.")
@click.option("--output", type=click.Path(path_type=Path), help="Submission to write (CSV).")
@click.option("--demo", is_flag=True, help="Score the phantom studies that ship in the package.")
@click.option(
    "--list",
    "list_only",
    is_flag=True,
    help="List the series, the detector that scores each, and why; score nothing.  --output then "
    "names a CSV in the form of --series, to be corrected by hand; not with --ids hash.",
)
@click.option(
    "--series",
    type=click.Path(path_type=Path),
    help="CSV with study_id, series_id, series_description, by folders or UIDs. It decides which "
    "detector scores a series, whatever the headers say; a description of another kind: none.",
)
@click.option(
    "--studies",
    type=click.Path(path_type=Path),
    help="CSV with study_id or row_id: score only these studies, such as those of the challenge's "
    "sample_submission.csv, or one fold of rsna-train prepare.",
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
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Decoding processes; default one, in large jobs one for every two cores.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads on the CPU; default all cores.")
@click.option(
    "--slices",
    type=click.Choice(("all", "relevant")),
    default="all",
    show_default=True,
    help="relevant excludes slices that by their position cannot show what a detector grades.",
)
@click.option(
    "--evidence",
    type=click.Path(path_type=Path),
    help="Also write where each peak came from (JSON lines).",
)
@click.option("--trust", is_flag=True, help="Open engines that were not built here. They are code.")
@click.option(
    "--ids",
    type=click.Choice(("folder", "uid", "hash")),
    help="Names of studies and series; the default depends on the layout of DATA.  hash gives "
    "pseudonyms, and writes the key to them to a private file, <name>.ids.csv.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option(
    "--strict", is_flag=True, help="Stop, and write nothing, if something cannot be scored."
)
@click.option("--quiet", is_flag=True, help="Print only errors; the run manifest has the rest.")
@common_options
@click.pass_obj
def cli(
    sizes: Sizes | None,
    data: tuple[Path, ...],
    bundle: Path | None,
    output: Path | None,
    demo: bool,
    list_only: bool,
    series: Path | None,
    studies: Path | None,
    backend: str,
    precision: str,
    device: str,
    batch_size: int | None,
    workers: int | None,
    threads: int | None,
    slices: str,
    ids: str | None,
    evidence: Path | None,
    trust: bool,
    resume: bool,
    strict: bool,
    quiet: bool,
) -> int:
    """Score the lumbar MR studies below DATA: 25 rows per study.

    DATA is a root of the challenge's data, one study of it, any tree of DICOM files, or a file;
    several may be named. The file <name>.run.json beside the submission says what was used, what
    was skipped, and why.

    Exit codes: 0 all scored; 3 finished, but a file could not be used or is doubtful, a series was
    missing, or all rows rest on the prior; 2 wrong usage; 1 failure, or no row at all.
    Research use only, not a medical device.
    """
    if list_only:
        typed = typed_parameters(click.get_current_context())
        if given := [one.opts[0] for one in typed if one.name not in OF_LIST]:
            raise UsageError(f"--list does not use {', '.join(given)}; leave it out")
    if demo:
        from rsna_lumbar.runtime.demo import demo_bundle, demo_studies

        if data or bundle:
            raise UsageError("--demo brings its own data and bundle; leave DATA and --bundle out")
        data, bundle = (demo_studies(),), demo_bundle()
        output = output or (None if list_only else DEMO_OUTPUT)
    if list_only and data:
        from rsna_lumbar.runtime.run.listing import ListRequest, list_series

        return list_series(ListRequest(data, series, studies, ids, output, quiet))
    if not data or bundle is None or output is None:
        if list_only:
            raise UsageError("DATA is missing; give DATA with --list, or try --demo --list")
        missing = "DATA" if not data else "--bundle" if bundle is None else "--output"
        raise UsageError(f"{missing} is missing; give DATA, --bundle and --output, or try --demo")
    from rsna_lumbar.runtime.run.request import Request, Sizes
    from rsna_lumbar.runtime.run.run import run

    request = Request(
        data, bundle, series, studies, ids, backend, precision, trust, device, workers, threads,
        slices, evidence, resume, strict, output, batch_size, quiet, demo, sizes or Sizes(),
    )  # fmt: skip
    return run(request)


main = entry_point(cli, "rsna-run", quote_errors=False)
