"""``rsna-train calibrate --views geometry``: both ways fitted, the better one kept per group."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from toys import write_clinical_study, write_toy_bundle

from rsna_lumbar.runtime.bundle.manifest import read_bundle, write_manifest
from rsna_lumbar.runtime.core.labels import (
    FORAMINAL,
    GRADE_TITLES,
    GRADES,
    GROUPS,
    LOCATIONS,
    SPINAL,
    SUBARTICULAR,
    Group,
    row_id,
)
from rsna_lumbar.runtime.core.metric import IntArray
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.train.calibration.calibrate import write_calibration
from rsna_lumbar.train.calibration.fit_group import Aim
from rsna_lumbar.train.calibration.labelled_peaks import Chosen, GroupPeaks, PeakTable
from rsna_lumbar.train.calibration.views import BothWays, calibrate_both_ways
from rsna_lumbar.train.cli import main

STUDIES = tuple(str(number) for number in range(100, 140))
CHOSEN = Chosen(STUDIES, STUDIES, "forty studies")
UNCOVERED = 3  # location of the subarticular set that no slice of the first study shows


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    cells = np.random.default_rng(3).choice(GRADE_TITLES, (len(STUDIES), 25))
    header = ["study_id", *("_".join(location) for location in LOCATIONS)]
    rows = [[study, *of_study] for study, of_study in zip(STUDIES, cells.tolist(), strict=True)]
    pd.DataFrame(rows, columns=header).to_csv(root / "train.csv", index=False)
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "bundle"
    write_toy_bundle(folder)
    return folder


def grades_of(root: Path, group: Group) -> IntArray:
    wide = pd.read_csv(root / "train.csv", dtype=str)
    columns = ["_".join(location) for location in group.locations]
    return np.asarray(wide[columns].map(GRADE_TITLES.index).to_numpy(), np.int64)


def peaks_of(grades: IntArray, certain: float, seed: int) -> NDArray[np.float64]:
    """Noise, and in a share of the rows the graded class above it."""
    rng = np.random.default_rng(seed)
    peaks = rng.uniform(0.05, 0.4, (*grades.shape, len(GRADES)))
    study, location = np.nonzero(rng.random(grades.shape) < certain)
    peaks[study, location, grades[study, location]] = 0.9
    return peaks


def table_of(
    root: Path, certain: dict[str, float], seed: int, studies: int = len(STUDIES)
) -> PeakTable:
    return PeakTable(
        STUDIES[:studies],
        tuple(
            GroupPeaks(group, peaks_of(grades, certain[group.name], seed), grades)
            for group in GROUPS
            for grades in [grades_of(root, group)[:studies]]
        ),
    )


@pytest.fixture(scope="module")
def found(root: Path, bundle: Path) -> BothWays:
    """Views help the subarticular group and hurt the foraminal one."""
    plain = table_of(root, {"spinal": 0.7, "foraminal": 0.9, "subarticular": 0.5}, seed=1)
    views = table_of(root, {"spinal": 0.7, "foraminal": 0.3, "subarticular": 0.9}, seed=2)
    views.groups[2].peaks[0, UNCOVERED] = np.nan
    return calibrate_both_ways(read_bundle(bundle), root, CHOSEN, plain, views, aim="metric")


def test_each_group_keeps_the_better_way(found: BothWays) -> None:
    assert found.by_views == ("subarticular",)
    assert set(found.groups) == {"foraminal", "subarticular"}
    spinal, foraminal, subarticular = found.after.detectors
    assert spinal.by_views is None and foraminal.by_views is None
    (fit,) = (one for one, group in zip(found.views.fits, GROUPS, strict=True)
              if group == SUBARTICULAR)  # fmt: skip
    assert fit.adopted and subarticular.by_views == fit.calibration
    assert subarticular.calibration == found.plain.after.detectors[2].calibration
    assert subarticular.by_views != subarticular.calibration


def test_the_rows_of_unseen_studies_are_those_of_the_way_that_is_kept(found: BothWays) -> None:
    rows, plain, views = (
        one.set_index("row_id")
        for one in (
            found.cross_validated,
            found.plain.cross_validated,
            found.views.cross_validated,
        )
    )
    assert rows.index.tolist() == plain.index.tolist()
    for group, expected in ((SPINAL, plain), (FORAMINAL, plain), (SUBARTICULAR, views)):
        names = [row_id(study, *one) for study in STUDIES for one in group.locations]
        pd.testing.assert_frame_equal(rows.loc[names], expected.loc[names])
    assert not rows.equals(plain) and not rows.equals(views)


def test_a_location_that_no_slice_shows_has_the_prior(found: BothWays) -> None:
    location = SUBARTICULAR.locations[UNCOVERED]
    row = found.cross_validated.set_index("row_id").loc[row_id(STUDIES[0], *location)]
    prior = found.after.detectors[2].prior[UNCOVERED]
    np.testing.assert_allclose(row.to_numpy(float), prior, atol=0.03)  # counted without its fold


NOISE = {"spinal": 0.0, "foraminal": 0.0, "subarticular": 0.0}
CERTAIN = {"spinal": 0.9, "foraminal": 0.9, "subarticular": 0.9}


@pytest.mark.parametrize("seed", range(4))
def test_a_gain_by_chance_is_none(root: Path, bundle: Path, seed: int) -> None:
    plain, views = (table_of(root, NOISE, seed=one) for one in (seed, seed + 100))
    before = read_bundle(bundle)
    assert not calibrate_both_ways(before, root, CHOSEN, plain, views, aim="metric").by_views


@pytest.mark.parametrize("aim", ["metric", "probability"])
def test_few_studies_decide_nothing_and_earlier_views_stay(
    root: Path, bundle: Path, aim: Aim
) -> None:
    """If they were fitted for the same aim."""
    chosen = Chosen(STUDIES[:4], STUDIES[:4], "four studies")
    plain, views = table_of(root, NOISE, 1, studies=4), table_of(root, CERTAIN, 2, studies=4)
    before = read_bundle(bundle)
    found = calibrate_both_ways(before, root, chosen, plain, views, aim=aim)
    assert found.by_views == () and found.after == before
    *others, last = before.detectors
    earlier = replace(
        before,
        detectors=(*others, replace(last, by_views=Calibration(1.3))),
        calibration_aim="metric",
    )
    found = calibrate_both_ways(earlier, root, chosen, plain, views, aim=aim)
    assert found.by_views == (("subarticular",) if aim == "metric" else ())
    assert found.plain.before == earlier


def test_views_alone_may_reach_the_aim(root: Path, bundle: Path) -> None:
    """Then the prior rows are those of the aim, which are compared."""
    plain, views = table_of(root, NOISE, 1), table_of(root, CERTAIN, 2)
    for group in (*plain.groups, *views.groups[:2]):
        group.peaks[:] = 0.3  # each grade is as likely, and as frequent: nothing to fit
    found = calibrate_both_ways(read_bundle(bundle), root, CHOSEN, plain, views, aim="probability")
    assert found.plain.after.calibration_aim == "none" and found.by_views == ("subarticular",)
    assert found.after.calibration_aim == "probability"
    assert found.after.detectors[2].prior == found.views.after.detectors[2].prior


def test_without_positions_the_rows_are_those_of_all_slices(root: Path, bundle: Path) -> None:
    plain = table_of(root, {**CERTAIN, "subarticular": 0.5}, 1)
    views = table_of(root, CERTAIN, 2)
    views.groups[2].peaks[7] = np.nan
    found = calibrate_both_ways(read_bundle(bundle), root, CHOSEN, plain, views, aim="metric")
    assert "subarticular" in found.by_views
    names = [row_id(STUDIES[7], *one) for one in SUBARTICULAR.locations]
    rows, expected = (
        one.set_index("row_id").loc[names]
        for one in (found.cross_validated, found.plain.cross_validated)
    )
    pd.testing.assert_frame_equal(rows, expected)


def test_the_bundle_takes_effect_and_can_be_made_plain_again(
    found: BothWays, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    write_toy_bundle(folder)
    write_calibration(folder, read_bundle(folder), found.after)
    assert read_bundle(folder).groups_by_views == ("subarticular",)
    assert read_bundle(folder) == found.after
    write_calibration(folder, found.after, found.plain.after)
    assert read_bundle(folder).groups_by_views == ()


def test_the_command_keeps_all_slices_where_positions_tell_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, bundle = tmp_path / "root", tmp_path / "bundle"
    write_toy_bundle(bundle)
    for seed, study in enumerate(STUDIES[:3]):
        write_clinical_study(root / "train_images", study, seed=seed, counts=(1, 1, 2))
    cells = np.random.default_rng(3).choice(GRADE_TITLES, (3, 25)).tolist()
    header = ["study_id", *("_".join(location) for location in LOCATIONS)]
    rows = [[study, *of_study] for study, of_study in zip(STUDIES[:3], cells, strict=True)]
    pd.DataFrame(rows, columns=header).to_csv(root / "train.csv", index=False)
    kinds = (("11", "Sagittal T2/STIR"), ("22", "Sagittal T1"), ("33", "Axial T2"))
    series = [f"{study},{number},{kind}" for study in STUDIES[:3] for number, kind in kinds]
    table = "\n".join(["study_id,series_id,series_description", *series, ""])
    (root / "train_series_descriptions.csv").write_text(table)
    points = "study_id,series_id,instance_number,condition,level,x,y\n"
    (root / "train_label_coordinates.csv").write_text(points)
    words = ["calibrate", str(bundle), str(root), "--views", "geometry", "--device", "cpu"]

    with pytest.raises(SystemExit) as end:
        main([*words, "--json", "--dry-run"])
    assert end.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert result["by_views"] == []
    assert result["losses"]["foraminal"]["plain"] == result["losses"]["foraminal"]["views"]

    with pytest.raises(SystemExit):
        main([*words, "--dry-run"])
    assert "loss on unseen studies" in capsys.readouterr().out

    whole = read_bundle(bundle)
    write_manifest(bundle, replace(whole, detectors=whole.detectors[1:]))
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "views need the discs that a spinal detector sees" in capsys.readouterr().err
