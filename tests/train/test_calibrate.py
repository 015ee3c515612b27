"""``rsna-train calibrate`` on toy detectors and twelve small studies with their tables."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import write_clinical_study, write_toy_bundle

from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.bundle.manifest import read_bundle, write_manifest
from rsna_lumbar.runtime.core.errors import BundleError
from rsna_lumbar.runtime.core.labels import (
    FORAMINAL,
    GRADE_TITLES,
    GROUPS,
    LOCATIONS,
    SPINAL,
    SUBMISSION_COLUMNS,
    Group,
)
from rsna_lumbar.runtime.core.metric import NO_GRADE
from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities
from rsna_lumbar.runtime.inference.scores import StudyScore
from rsna_lumbar.runtime.run.submission import submission_rows
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.train.calibration.calibrate import Calibrated, calibrate, write_calibration
from rsna_lumbar.train.calibration.fit_group import (
    PLAIN,
    Aim,
    crossvalidated_probabilities,
    losses,
    study_folds,
)
from rsna_lumbar.train.calibration.labelled_peaks import (
    PeakTable,
    all_studies,
    collect_peaks,
    studies_of_fold,
    studies_of_list,
)
from rsna_lumbar.train.cli import main
from rsna_lumbar.train.dataset.prior import class_prior
from rsna_lumbar.train.dataset.split import Folds, split_studies
from rsna_lumbar.train.dataset.tables import read_tables
from rsna_lumbar.train.evaluation.metric import score

STUDIES = tuple(str(number) for number in range(21, 33))
WITHOUT_T1 = "25"  # its foraminal rows come from the prior
UNGRADED = "31"  # in train.csv with empty cells
ABSENT = "99"  # labelled, without a folder


def write_tables(root: Path) -> None:
    rng = np.random.default_rng(7)
    header = ["study_id", *("_".join(location) for location in LOCATIONS)]
    cells = rng.choice(GRADE_TITLES, (len(STUDIES) + 1, 25), p=[0.2, 0.2, 0.6]).tolist()
    rows = [[study, *grades] for study, grades in zip((*STUDIES, ABSENT), cells, strict=True)]
    rows[0][3] = ""
    rows[STUDIES.index(UNGRADED)][1:] = [""] * 25
    pd.DataFrame(rows, columns=header).to_csv(root / "train.csv", index=False)
    points = "study_id,series_id,instance_number,condition,level,x,y\n"
    (root / "train_label_coordinates.csv").write_text(points)
    series = [
        f"{study},{number},{kind}"
        for study in STUDIES
        for number, kind in (("11", "Sagittal T2/STIR"), ("22", "Sagittal T1"), ("33", "Axial T2"))
        if (study, number) != (WITHOUT_T1, "22")
    ]
    table = "\n".join(["study_id,series_id,series_description", *series])
    (root / "train_series_descriptions.csv").write_text(table + "\n")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    for seed, study in enumerate(STUDIES):
        counts = (1, 0 if study == WITHOUT_T1 else 1, 2)
        write_clinical_study(root / "train_images", study, seed=seed, counts=counts)
    write_clinical_study(root / "test_images", "5000", counts=(1, 1, 1))
    write_tables(root)
    return root


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_toy_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def plain_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "bundle"
    write_toy_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def table(root: Path, plain_bundle: Path) -> PeakTable:
    return collect_peaks(plain_bundle, root, all_studies(root).studies, device="cpu")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", *map(str, arguments), "--device", "cpu"])
    return int(stopped.value.code or 0)


def scores(bundle: Path, root: Path) -> list[StudyScore]:
    with Scorer(bundle, device="cpu") as scorer:
        return list(scorer.score(find_studies(root / "train_images")))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def all_of(root: Path, bundle: Path, table: PeakTable, aim: Aim = "metric") -> Calibrated:
    return calibrate(read_bundle(bundle), root, all_studies(root), table, aim=aim)


def test_peaks_stand_beside_the_labels(root: Path, plain_bundle: Path, table: PeakTable) -> None:
    assert table.studies == tuple(study for study in STUDIES if study != UNGRADED)
    wide = pd.read_csv(root / "train.csv", dtype=str).set_index("study_id")
    scored = {one.study_id: one for one in scores(plain_bundle, root)}
    for index, group in enumerate(table.groups):
        assert group.group is GROUPS[index]
        for study, peaks, grades in zip(table.studies, group.peaks, group.grades, strict=True):
            peak = scored[study].groups[index].peak
            if peak is None:
                assert (study, group.group) == (WITHOUT_T1, FORAMINAL)
                assert np.isnan(peaks).all()
            else:
                np.testing.assert_array_equal(peaks.ravel(), peak)
            for location, grade in zip(group.group.locations, grades, strict=True):
                cell = wide.loc[study, "_".join(location)]
                assert (grade == NO_GRADE) if pd.isna(cell) else GRADE_TITLES[grade] == cell


def test_it_takes_effect_without_a_new_export(root: Path, bundle: Path) -> None:
    models = {name: data for name, data in contents(bundle).items() if name != "bundle.json"}
    assert run(bundle, root) == 0
    found = read_bundle(bundle)
    assert found.calibration_aim == "metric"
    assert models.items() <= contents(bundle).items()
    assert len(contents(bundle)) == len(models) + 1
    for study in scores(bundle, root):
        for detector, one in zip(found.detectors, study.groups, strict=True):
            assert detector.calibration != PLAIN
            if one.peak is None:
                np.testing.assert_allclose(one.probability, detector.prior, atol=1e-12)
            else:
                expected = probabilities(one.peak, detector.calibration)
                np.testing.assert_allclose(one.probability, expected, atol=1e-6)


@pytest.mark.parametrize(("aim", "weights"), [("metric", (1, 2, 4)), ("probability", (1, 1, 1))])
def test_prior_rows_are_the_frequencies_that_the_aim_likes(
    root: Path, bundle: Path, aim: str, weights: tuple[float, ...]
) -> None:
    assert run(bundle, root, "--aim", aim) == 0
    found = read_bundle(bundle)
    assert found.calibration_aim == aim
    labels = read_tables(root).labels
    for detector in found.detectors:
        expected = class_prior(labels, detector.group.locations, grade_weights=weights)
        np.testing.assert_allclose(detector.prior, expected, atol=1e-12)


def test_prior_rows_are_counted_on_the_training_studies(root: Path) -> None:
    chosen = studies_of_fold(root, Folds(folds=3, fold=1))
    split = split_studies(read_tables(root), Folds(folds=3, fold=1))
    labelled = set(read_tables(root).labels["study_id"])
    assert set(chosen.studies) == labelled & set(split.val)
    assert set(chosen.prior_studies) == labelled & set(split.train)


def test_a_list_names_the_studies(root: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("study_id\n21\n23\n22\n77\n")
    chosen = studies_of_list(root, listed)
    assert chosen.studies == ("21", "22", "23")
    others = {*STUDIES, ABSENT} - {"21", "22", "23", UNGRADED}
    assert chosen.prior_studies == tuple(sorted(others))


def test_twice_is_as_good_as_once(
    root: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, root) == 0
    first = contents(bundle)
    assert "calibrated before" not in capsys.readouterr().out
    assert run(bundle, root) == 0
    assert contents(bundle) == first
    shown = capsys.readouterr().out
    assert "The bundle was calibrated before (aim metric): score" in shown
    assert "could be judged" not in shown and "were counted again" in shown
    assert shown.endswith(f"Nothing to write: {bundle} is already calibrated this way.\n")


def test_an_ensemble_is_fitted_on_its_combined_peaks(
    root: Path, tmp_path: Path, bundle: Path
) -> None:
    """Two equal detectors combine to one, so the calibration is the same."""
    write_toy_bundle(tmp_path / "two", detectors=2)
    assert run(tmp_path / "two", root) == run(bundle, root) == 0
    one, two = (read_bundle(folder) for folder in (bundle, tmp_path / "two"))
    assert [d.calibration for d in one.detectors] == [d.calibration for d in two.detectors]


def test_a_dry_run_prints_the_same_and_writes_nothing(
    root: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(bundle)
    assert run(bundle, root, "--dry-run") == 0
    dry = capsys.readouterr().out.splitlines()
    assert contents(bundle) == before
    assert run(bundle, root) == 0
    wet = capsys.readouterr().out.splitlines()
    assert dry[:-1] == wet[:-1]
    assert (dry[-1], wet[-1]) == (f"{bundle} was not changed.", f"Written to {bundle}.")
    assert contents(bundle) != before


def test_the_object_says_what_is_written(
    root: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, root, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    written = read_bundle(bundle)
    assert found["calibration_aim"] == "metric"
    assert found["missing"] == [ABSENT]
    for detector in written.detectors:
        group = found["groups"][detector.group.name]
        assert group["calibration"]["temperature"] == detector.calibration.temperature
        assert tuple(group["calibration"]["bias"]) == detector.calibration.bias
        assert group["after"]["loss"] < group["before"]["loss"]
        assert found["prior"][detector.group.name] == [list(row) for row in detector.prior]
    assert found["score"]["after"]["score"] < found["score"]["plain"]["score"]
    assert found["groups"]["foraminal"]["studies"] == len(STUDIES) - 2


def test_the_plain_score_is_that_of_a_submission(
    root: Path, plain_bundle: Path, table: PeakTable
) -> None:
    kept = [one for one in scores(plain_bundle, root) if one.study_id in table.studies]
    rows = [row for one in kept for row in submission_rows(one)]
    labels = pd.read_csv(root / "train.csv", dtype=str, keep_default_na=False)
    labels = labels[labels["study_id"].isin(table.studies)]
    expected = score(pd.DataFrame(rows, columns=list(SUBMISSION_COLUMNS)), labels)
    found = all_of(root, plain_bundle, table).scores
    assert found.bundle is None
    for term in ("score", "spinal", "foraminal", "subarticular", "any_severe_spinal"):
        assert getattr(found.plain, term) == pytest.approx(getattr(expected, term), abs=1e-5)


def test_a_calibrated_bundle_is_scored_as_it_is(
    root: Path, plain_bundle: Path, table: PeakTable, tmp_path: Path
) -> None:
    write_toy_bundle(tmp_path / "odd", Calibration(0.5, (0.0, 0.4, -0.4)))
    odd, plain = all_of(root, tmp_path / "odd", table), all_of(root, plain_bundle, table)
    assert odd.fits == plain.fits
    assert odd.scores.plain == plain.scores.plain
    assert odd.scores.bundle is not None
    spinal, _, _ = odd.in_bundle
    assert spinal is not None  # no spinal row comes from the prior: the term is the group's loss
    assert spinal.loss == pytest.approx(odd.scores.bundle.spinal, rel=1e-12)


@pytest.mark.parametrize("aim", ["metric", "probability"])
def test_few_studies_leave_the_bundle_as_it_is(
    root: Path, tmp_path: Path, aim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it was calibrated for: what cannot be judged is not thrown away."""
    folder = tmp_path / "odd"
    write_toy_bundle(folder, Calibration(0.5, (0.0, 0.4, -0.4)))
    write_manifest(folder, replace(read_bundle(folder), calibration_aim="metric"))
    before = contents(folder)
    (tmp_path / "list.csv").write_text("study_id\n21\n22\n23\n")
    assert run(folder, root, "--studies", tmp_path / "list.csv", "--aim", aim) == 0
    shown = capsys.readouterr().out
    assert contents(folder) == before
    assert "No group could be judged: the bundle stays as it is" in shown
    assert "Nothing to write" in shown and "counted again" not in shown
    reason = "studies with peaks and a graded row: 3, at least 10 are needed."
    for group in GROUPS:
        assert f"{group.name} keeps its earlier calibration: {reason}" in shown


@pytest.mark.parametrize(("earlier", "kept"), [("metric", True), ("probability", False)])
def test_a_group_that_cannot_be_judged_keeps_a_calibration_of_the_same_aim(
    root: Path, tmp_path: Path, table: PeakTable, earlier: str, kept: bool
) -> None:
    folder = tmp_path / "odd"
    odd = Calibration(0.5, (0.0, 0.4, -0.4))
    write_toy_bundle(folder, odd)
    write_manifest(folder, replace(read_bundle(folder), calibration_aim=earlier))
    spinal, *others = table.groups
    ungraded = replace(spinal, grades=spinal.grades.copy())
    ungraded.grades[4:] = NO_GRADE  # four studies are left
    found = all_of(root, folder, replace(table, groups=(ungraded, *others)))
    assert found.fits[0].too_few and found.fits[1].adopted
    assert found.after.detectors[0].calibration == (odd if kept else PLAIN)
    assert found.after.calibration_aim == "metric"


def test_the_rows_of_unseen_studies_score_what_the_command_says(
    root: Path, bundle: Path, table: PeakTable, tmp_path: Path
) -> None:
    written = tmp_path / "unseen.csv"
    assert run(bundle, root, "--cross-validated", written, "--dry-run") == 0
    rows = pd.read_csv(written)
    assert list(rows) == list(SUBMISSION_COLUMNS)
    wide = pd.read_csv(root / "train.csv", dtype=str, keep_default_na=False)
    truth = wide[wide["study_id"].isin(table.studies)]
    scored = rows[~rows["row_id"].str.startswith(f"{ABSENT}_")]
    assert len(rows) - len(scored) == 25  # of the study without images: the prior without it
    assert score(scored, truth) == all_of(root, bundle, table).scores.after
    score(rows, wide[wide["study_id"] != UNGRADED])  # none is missing


def test_an_earlier_calibration_is_not_in_the_rows_of_unseen_studies(
    root: Path, bundle: Path, table: PeakTable
) -> None:
    """It may have been fitted on these very studies."""
    few = replace(table, groups=tuple(replace(g, grades=g.grades.copy()) for g in table.groups))
    for group in few.groups:
        group.grades[4:] = NO_GRADE
    plain = all_of(root, bundle, few)
    odd = tuple(
        replace(one, calibration=Calibration(0.5, (0.0, 0.4, -0.4)))
        for one in read_bundle(bundle).detectors
    )
    write_manifest(bundle, replace(read_bundle(bundle), detectors=odd, calibration_aim="metric"))
    again = all_of(root, bundle, few)
    assert all(fit.too_few for fit in again.fits)
    assert again.cross_validated.equals(plain.cross_validated)


@pytest.mark.parametrize("place", ["there/is/no/such.csv", "bundle/bundle.json", "train.csv"])
def test_a_place_for_rows_that_cannot_be_is_refused_at_once(
    root: Path, bundle: Path, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = root / place if place == "train.csv" else tmp_path / place
    before = contents(bundle)
    assert run(bundle, root, "--cross-validated", target) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and str(target.parent) in error
    assert contents(bundle) == before and (root / "train.csv").read_text().startswith("study_id")


def test_a_study_without_images_is_named(
    root: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, root, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert f"Labelled studies without an image, left out: 1 ({ABSENT})." in shown
    assert f"{len(STUDIES) - 1} studies: all labelled studies; make sure that" in shown


def test_an_interrupted_write_leaves_the_old_bundle(
    root: Path, bundle: Path, table: PeakTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(bundle)
    found = all_of(root, bundle, table)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_calibration(bundle, found.before, found.after)
    assert contents(bundle) == before


def test_a_bundle_that_changed_meanwhile_is_not_overwritten(
    root: Path, bundle: Path, table: PeakTable
) -> None:
    found = all_of(root, bundle, table)
    write_toy_bundle(bundle, detectors=2)
    with pytest.raises(BundleError, match="was changed while it was being calibrated"):
        write_calibration(bundle, found.before, found.after)


def test_prior_rows_of_the_score_are_counted_without_the_fold(
    root: Path, plain_bundle: Path, table: PeakTable
) -> None:
    """The foraminal rows of one study come from the prior, whose labels include its own."""
    fold_of = study_folds(np.concatenate([group.grades for group in table.groups], axis=1))
    place = table.studies.index(WITHOUT_T1)
    inside = np.array(table.studies)[fold_of == fold_of[place]]
    labels = read_tables(root).labels
    others = labels[~labels["study_id"].isin(inside)]
    group = table.groups[1]
    given = crossvalidated_probabilities(group.peaks, group.grades, "metric", fold_of)
    given[place] = class_prior(others, FORAMINAL.locations)
    expected = losses(given, group.grades, "metric")
    assert expected is not None
    found = all_of(root, plain_bundle, table)
    assert found.fits[1].adopted
    assert found.scores.after.foraminal == pytest.approx(expected.loss, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--fold", "0", "--studies", "LIST"), 2, "--fold and --studies exclude each other"),
        (("--fold", "5"), 2, "no fold 5 of 5"),
        (("--studies", "UNGRADED"), 1, "none of the studies of ungraded.csv has a label"),
        (("--studies", "LIST"), 1, "holds none of the 1 studies"),
        (("--studies", "WRONG"), 1, "lacks the column study_id"),
    ],
)
def test_a_wrong_request_is_one_line(
    root: Path, bundle: Path, tmp_path: Path, options: tuple[str, ...], code: int, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    texts = {
        "LIST": f"study_id\n{ABSENT}\n",
        "UNGRADED": f"study_id\n{UNGRADED}\n",
        "WRONG": "study,fold\n21,1\n",
    }
    files = {name: tmp_path / f"{name.lower()}.csv" for name in texts}
    for name, text in texts.items():
        files[name].write_text(text)
    before = contents(bundle)
    assert run(bundle, root, *(files.get(word, word) for word in options)) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("Error: ") and error.count("\n") == 1
    assert contents(bundle) == before


@pytest.mark.parametrize("name", ["train.csv", "train_series_descriptions.csv"])
def test_a_missing_table_is_one_line(
    root: Path, bundle: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    (copy / name).unlink()
    assert run(bundle, copy) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and f"{name} does not exist" in error
    assert error.count("\n") == 1


def test_a_damaged_bundle_is_one_line(
    root: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "bundle.json").write_text("{")
    assert run(bundle, root) == 1
    error = capsys.readouterr().err
    assert "is damaged" in error and error.count("\n") == 1


@pytest.mark.parametrize("groups", [(FORAMINAL,), (GROUPS[0], GROUPS[2])])
def test_the_groups_there_are_get_calibrated(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], groups: tuple[Group, ...]
) -> None:
    folder = tmp_path / "partial"
    write_toy_bundle(folder, groups=groups)
    assert run(folder, root) == 0
    printed = capsys.readouterr().out
    assert read_bundle(folder).groups == groups
    missing = " and ".join(group.name for group in GROUPS if group not in groups)
    assert f"The bundle has no {missing} detector" in printed
    severe_term = next(one for one in printed.splitlines() if one.startswith("any_severe_spinal"))
    assert severe_term.split()[1:] == ["-"] * 3 or SPINAL in groups

    chosen = all_studies(root)
    found = collect_peaks(folder, root, chosen.studies, device="cpu")
    result = calibrate(read_bundle(folder), root, chosen, found, aim="metric")
    plain = result.scores.plain
    terms = [plain.spinal, plain.foraminal, plain.subarticular]
    assert [term is not None for term in terms] == [group in groups for group in GROUPS]
    existing = [one for one in (*terms, plain.any_severe_spinal) if one is not None]
    assert plain.score == pytest.approx(np.mean(existing))
