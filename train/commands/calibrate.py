"""``rsna-train calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.entry_point import common_options
from rsna_lumbar.train.commands.shared import (
    EXISTING_FILE,
    EXISTING_FOLDER,
    FILE,
    FOLDER,
    FOLDS,
    JSON,
    SEED,
    tracked,
)

if TYPE_CHECKING:
    from rsna_lumbar.train.calibration.fit_group import Aim
    from rsna_lumbar.train.calibration.labelled_peaks import Chosen, PeakTable


@click.command()
@click.argument("bundle", type=FOLDER)
@click.argument("root", type=EXISTING_FOLDER)
@click.option(
    "--fold",
    type=click.IntRange(0),
    help="Calibrate on the validation studies of this fold, counted from 0.",
)
@FOLDS
@SEED
@click.option(
    "--studies",
    type=EXISTING_FILE,
    help="Instead of --fold: CSV with study_id, such as val_studies.csv of prepare.",
)
@click.option(
    "--aim",
    type=click.Choice(["metric", "probability"]),
    default="metric",
    help="metric: lowest weighted loss of the challenge; probability: numbers that can be read as "
    "probabilities.",
)
@click.option(
    "--views",
    type=click.Choice(["plain", "geometry"]),
    default="plain",
    help="geometry: also fit to peaks of those slices that, by their position, show a location; "
    "each group uses the better way. plain: views of before are no longer used.",
)
@click.option("--workers", type=click.IntRange(0), help="Number of decoding processes.")
@click.option("--device", default="auto", help="auto, cpu or cuda:N.")
@click.option(
    "--cross-validated",
    type=FILE,
    help="Write the studies' rows to this CSV, for evaluate; each comes from a fit that did not "
    "use its study (divided by the sum if no fit is adopted; the prior if there are no slices).",
)
@click.option("--dry-run", is_flag=True, help="Do not change the bundle.")
@JSON
@common_options
def calibrate(
    bundle: Path,
    root: Path,
    fold: int | None,
    folds: int,
    seed: int,
    studies: Path | None,
    aim: Aim,
    views: str,
    workers: int | None,
    device: str,
    cross_validated: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fit the step from peaks to probabilities of BUNDLE on labelled studies of ROOT.

    ROOT contains train.csv, the other two tables, and train_images. A group keeps plain division by
    the sum unless studies outside the fit show a gain. The bundle takes effect at once, without a
    new export. Without --fold or --studies, every labelled study is used.
    """
    from rsna_lumbar.runtime.bundle.manifest import read_bundle
    from rsna_lumbar.train.calibration import report
    from rsna_lumbar.train.calibration.calibrate import calibrate as calibrate_bundle
    from rsna_lumbar.train.calibration.calibrate import write_calibration
    from rsna_lumbar.train.calibration.labelled_peaks import collect_peaks
    from rsna_lumbar.train.calibration.views import as_json as both_as_json
    from rsna_lumbar.train.calibration.views import as_table as both_as_table
    from rsna_lumbar.train.calibration.views import calibrate_both_ways, require_spinal

    if cross_validated:
        _require_free(cross_validated, bundle, root)
    before = read_bundle(bundle)
    by_views = views == "geometry"
    if by_views:
        require_spinal(before)
    chosen = _choose(root, fold, folds, seed, studies)

    def collected(*, by_views: bool) -> PeakTable:
        return collect_peaks(
            bundle, root, chosen.studies,
            workers=workers, device=device, track=tracked, by_views=by_views,
        )  # fmt: skip

    plain = collected(by_views=False)
    if by_views:
        both = calibrate_both_ways(
            before, root, chosen, plain, collected(by_views=True), aim=aim, seed=seed
        )
        after, rows = both.after, both.cross_validated
        text = both_as_json(both, chosen) if as_json else both_as_table(both, chosen)
    else:
        found = calibrate_bundle(before, root, chosen, plain, aim=aim, seed=seed)
        after, rows = found.after, found.cross_validated
        text = report.as_json(found, chosen) if as_json else report.as_table(found, chosen)
    if cross_validated:
        write_atomically(cross_validated, rows.to_csv(index=False, lineterminator="\n"))
        click.echo(cross_validated, err=True)
    changed = after != before
    if changed and not dry_run:
        write_calibration(bundle, before, after)
    click.echo(text)
    if as_json:
        return
    if dropped := set(before.groups_by_views) - set(after.groups_by_views):
        click.echo(f"{', '.join(sorted(dropped))}: all slices are used again, not views.")
    if not changed:
        click.echo(f"Nothing to write: {bundle} is already calibrated this way.")
    else:
        click.echo(f"{bundle} was not changed." if dry_run else f"Written to {bundle}.")


def _require_free(rows: Path, bundle: Path, root: Path) -> None:
    """Check where the rows go before any study is scored."""
    from rsna_lumbar.runtime.run.output_paths import require_writable
    from rsna_lumbar.train.dataset.tables import LABELS, POINTS, SERIES

    name = "--cross-validated"
    require_writable(name, rows)
    tables = {(root / table).resolve() for table in (LABELS, POINTS, SERIES)}
    if rows.resolve() in tables or bundle.resolve() in rows.resolve().parents:
        raise UsageError(f"{name} {rows} is an input of this command; choose another path")


def _choose(root: Path, fold: int | None, folds: int, seed: int, studies: Path | None) -> Chosen:
    from rsna_lumbar.train.calibration import labelled_peaks
    from rsna_lumbar.train.dataset.split import Folds

    if fold is not None and studies is not None:
        raise UsageError("--fold and --studies exclude each other; give one of them")
    if fold is not None:
        return labelled_peaks.studies_of_fold(root, Folds(folds=folds, fold=fold, seed=seed))
    if studies is not None:
        return labelled_peaks.studies_of_list(root, studies)
    return labelled_peaks.all_studies(root)
