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
from rsna_lumbar.train.calibration.calibrate import write_calibration
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


def table_of(root: Path, certain: dict[str, float], seed: int) -> PeakTable:
    return PeakTable(
        STUDIES,
        tuple(
            GroupPeaks(group, peaks_of(grades, certain[group.name], seed), grades)
            for group in GROUPS
            for grades in [grades_of(root, group)]
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
    assert set(found.losses) == {"foraminal", "subarticular"}
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


def test_the_bundle_takes_effect_and_can_be_made_plain_again(
    found: BothWays, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    write_toy_bundle(folder)
    write_calibration(folder, read_bundle(folder), found.after)
    assert read_bundle(folder).by_views == ("subarticular",)
    assert read_bundle(folder) == found.after
    write_calibration(folder, found.after, found.plain.after)
    assert read_bundle(folder).by_views == ()


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
