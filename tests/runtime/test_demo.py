"""The demo that ships: small enough, whole, and readable."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.store import read_model
from rsna_lumbar.runtime.cli import main
from rsna_lumbar.runtime.core.labels import GRADE_TITLES, GRADES, GROUPS, LEVELS, level_title
from rsna_lumbar.runtime.demo import FOLDER, demo_bundle, demo_studies
from rsna_lumbar.runtime.inference.scores import StudyScore
from rsna_lumbar.runtime.run.submission import submission_lines
from rsna_lumbar.runtime.studies.finder import find_studies

LIMIT_BYTES = 12_000_000


def test_all_of_it_is_under_12_mb() -> None:
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert 1_000_000 < size < LIMIT_BYTES


def test_the_bundle_is_whole_and_verified() -> None:
    bundle = read_bundle(demo_bundle())
    for detector in bundle.detectors:
        for model in detector.models:
            assert read_model(demo_bundle(), model)
            assert 0 <= model.parity.peak <= 1e-5
            assert 0 <= model.parity.probability <= 1e-4


def test_the_studies_have_every_kind_of_series() -> None:
    studies = find_studies(demo_studies()).studies
    assert len(studies) >= 2
    for study in studies:
        assert all(study.of(group) for group in GROUPS)


def scored(batch_size: int, workers: int) -> list[StudyScore]:
    with Scorer(demo_bundle(), device="cpu", batch_size=batch_size) as scorer:
        return list(scorer.score(find_studies(demo_studies()), workers=workers))


@pytest.fixture(scope="module")
def alone() -> list[StudyScore]:
    return scored(16, 0)


def test_workers_change_no_byte_of_a_trained_networks_rows(alone: list[StudyScore]) -> None:
    shared = scored(16, 2)
    assert list(map(submission_lines, alone)) == list(map(submission_lines, shared))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_sizes_change_only_the_rounding_of_a_trained_networks_rows(
    alone: list[StudyScore], batch_size: int
) -> None:
    """Sets of 15 to 30 slices: cut into parts at 1 and 7, two studies a batch at 64."""
    for one, two in zip(alone, scored(batch_size, 0), strict=True):
        for a, b in zip(one.groups, two.groups, strict=True):
            assert np.ptp(a.probability) > 0.5
            np.testing.assert_allclose(a.probability, b.probability, rtol=0, atol=1e-6)


def test_the_printed_table_is_the_submission(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["--demo"])
    assert caught.value.code == 0
    tables = capsys.readouterr().out.strip().split("\n\n")
    with (tmp_path / "submission.csv").open(newline="") as stream:
        rows = {row.pop("row_id"): row for row in csv.DictReader(stream)}
    assert len(rows) == 25 * len(tables)
    for table in tables:
        title, heading, *lines = table.splitlines()
        study_id = title.removeprefix("Study ")
        columns = re.split(r"\s{2,}", heading.strip())
        assert len(columns) == 5
        assert [line.split()[0] for line in lines] == [level_title(level) for level in LEVELS]
        conditions = [condition for group in GROUPS for condition in group.conditions]
        for level, line in zip(LEVELS, lines, strict=True):
            for condition, cell in zip(conditions, re.split(r"\s{2,}", line)[1:], strict=True):
                row = rows[f"{study_id}_{condition}_{level}"]
                best = max(GRADES, key=lambda grade: float(row[grade]))
                share = f"{100 * float(row[best]):.0f} %"
                assert cell == f"{GRADE_TITLES[GRADES.index(best)]} {share}"
