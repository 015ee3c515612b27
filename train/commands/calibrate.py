"""``rsna-train calibrate``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.entry_point import common_options
from rsna_lumbar.train.commands.shared import EXISTING_FILE, EXISTING_FOLDER, FILE, FOLDER

if TYPE_CHECKING:
    from rsna_lumbar.runtime.inference.scores import StudyScore
    from rsna_lumbar.train.calibration.fit_group import Aim
    from rsna_lumbar.train.calibration.labelled_peaks import Chosen


@click.command()
@click.argument("bundle", type=FOLDER)
@click.argument("root", type=EXISTING_FOLDER)
@click.option(
    "--fold",
    type=click.IntRange(0),
    help="Calibrate on the validation studies of this fold, counted from 0.",
)
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the split, and of the folds by which the fits are tried.",
)
@click.option(
    "--studies",
    type=EXISTING_FILE,
    help="Instead of --fold: CSV with study_id, such as val_studies.csv of prepare.",
)
@click.option(
    "--aim",
    type=click.Choice(["metric", "probability"]),
    default="metric",
    show_default=True,
    help="The challenge's weighted loss, or numbers to be read as probabilities.",
)
@click.option("--workers", type=click.IntRange(0), help="Decoding processes.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@click.option(
    "--cross-validated",
    type=FILE,
    help="For evaluate: write the studies' rows, each by a fit that did not see it (divided by the "
    "sum where no fit is adopted; the prior without slices).",
)
@click.option("--dry-run", is_flag=True, help="Leave the bundle as it is.")
@click.option("--json", "as_json", is_flag=True, help="Print an object instead of tables.")
@common_options
def calibrate(
    bundle: Path,
    root: Path,
    fold: int | None,
    folds: int,
    seed: int,
    studies: Path | None,
    aim: Aim,
    workers: int | None,
    device: str,
    cross_validated: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fit what turns the peaks of BUNDLE into probabilities, on labelled studies of ROOT.

    ROOT holds train.csv, the other two tables, and train_images. A group keeps plain division by
    the sum unless studies that the fit did not see show a gain. The bundle takes effect at once,
    without a new export. Without --fold or --studies, every labelled study is used.
    """
    from rsna_lumbar.runtime.bundle.manifest import read_bundle
    from rsna_lumbar.train.calibration import report as report
    from rsna_lumbar.train.calibration.calibrate import calibrate as calibrate_bundle
    from rsna_lumbar.train.calibration.calibrate import write_calibration
    from rsna_lumbar.train.calibration.labelled_peaks import collect_peaks

    if cross_validated:
        _require_free(cross_validated, bundle, root)
    before = read_bundle(bundle)
    chosen = _choose(root, fold, folds, seed, studies)
    table = collect_peaks(
        bundle, root, chosen.studies, workers=workers, device=device, track=_tracked
    )
    found = calibrate_bundle(before, root, chosen, table, aim=aim, seed=seed)
    changed = found.after != found.before
    if cross_validated:
        rows = found.cross_validated.to_csv(index=False, lineterminator="\n")
        write_atomically(cross_validated, rows)
        click.echo(cross_validated, err=True)
    if changed and not dry_run:
        write_calibration(bundle, found)
    click.echo(report.as_json(found, chosen) if as_json else report.as_table(found, chosen))
    if not as_json:
        click.echo(_end(bundle, changed, dry_run))


def _require_free(rows: Path, bundle: Path, root: Path) -> None:
    """Before anything is scored."""
    from rsna_lumbar.runtime.run.output_paths import require_writable
    from rsna_lumbar.train.dataset.tables import LABELS, POINTS, SERIES

    name = "--cross-validated"
    require_writable(name, rows)
    tables = {(root / table).resolve() for table in (LABELS, POINTS, SERIES)}
    if rows.resolve() in tables or bundle.resolve() in rows.resolve().parents:
        raise UsageError(f"{name} {rows} is a file that is read; name another")


def _end(bundle: Path, changed: bool, dry_run: bool) -> str:
    if not changed:
        return f"Nothing to write: {bundle} is as it should be."
    return f"{bundle} stays as it was." if dry_run else f"Written to {bundle}."


def _choose(root: Path, fold: int | None, folds: int, seed: int, studies: Path | None) -> Chosen:
    from rsna_lumbar.train.calibration.labelled_peaks import (
        all_studies,
        studies_of_fold,
        studies_of_list,
    )
    from rsna_lumbar.train.dataset.split import Folds

    if fold is not None and studies is not None:
        raise UsageError("--fold and --studies both choose studies; give one of them")
    if fold is not None:
        return studies_of_fold(root, Folds(folds=folds, fold=fold, seed=seed))
    return all_studies(root) if studies is None else studies_of_list(root, studies)


def _tracked(scores: Iterable[StudyScore], total: int) -> Iterable[StudyScore]:
    from tqdm import tqdm

    return tqdm(scores, desc="scoring", total=total, disable=None, leave=False)
