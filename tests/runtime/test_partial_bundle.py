"""A bundle that lacks a group: its other groups are scored as ever, and what it lacks is said once.

A person trains one detector first. Rows are never made up for a detector that does not exist.
"""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import run_here as run
from toys import write_clinical_study, write_toy_bundle

from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.run.request import Sizes
from rsna_lumbar.runtime.run.submission import study_table
from rsna_lumbar.runtime.studies.finder import find_studies

Capture = pytest.CaptureFixture[str]
SOME = [
    groups for count in (1, 2) for groups in itertools.combinations(GROUPS, count)
]  # every bundle that lacks a group
SERIES = {SPINAL: "11", FORAMINAL: "22", SUBARTICULAR: "33"}


def manifest_of(output: Path) -> dict[str, Any]:
    return dict(json.loads(output.with_suffix(".run.json").read_text()))


def lines_of(output: Path) -> list[str]:
    return output.read_text().splitlines(keepends=True)


@pytest.fixture
def root(toy_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_root, tmp_path / "root"))


def partial(folder: Path, groups: Sequence[Group]) -> Path:
    write_toy_bundle(folder, groups=groups)
    return folder


@pytest.mark.parametrize("groups", SOME, ids=lambda some: "+".join(one.name for one in some))
def test_the_rows_are_those_of_the_whole_bundle(
    groups: tuple[Group, ...], root: Path, toy_bundle: Path, tmp_path: Path, capsys: Capture
) -> None:
    whole, some = tmp_path / "whole.csv", tmp_path / "some.csv"
    assert run(root, "--bundle", toy_bundle, "--output", whole) == 0
    capsys.readouterr()
    evidence = tmp_path / "some.jsonl"
    words = ("--bundle", partial(tmp_path / "b", groups), "--output", some, "--evidence", evidence)
    assert run(root, *words) == 0
    wanted = [condition for group in groups for condition in group.conditions]
    header, *rows = lines_of(whole)
    assert lines_of(some) == [header, *(r for r in rows if any(c in r for c in wanted))]
    lines = [json.loads(line) for line in evidence.read_text().splitlines()]
    assert [line["group"] for line in lines] == [group.name for group in groups] * 3

    missing = [group for group in GROUPS if group not in groups]
    said = capsys.readouterr().err
    assert said.count("the bundle has no ") == 1
    assert f"no {' and '.join(group.name for group in missing)} detector" in said
    assert "no_detector" not in said and "more, all in the run manifest" not in said
    manifest = manifest_of(some)
    assert manifest["groups_not_in_bundle"] == [group.name for group in missing]
    assert manifest["counts"]["rows"] == len(rows) * len(wanted) // 5
    assert manifest["filled_from_prior"] == []


def test_series_without_a_detector_are_named_and_not_read(root: Path, tmp_path: Path) -> None:
    """Not even a damaged file of them matters; the counts add up."""
    for file in (root / "test_images" / "7" / "22").iterdir():
        file.write_bytes(file.read_bytes()[:-9])
    output = tmp_path / "out.csv"
    assert run(root, "--bundle", partial(tmp_path / "b", (SPINAL,)), "--output", output) == 0
    manifest = manifest_of(output)
    named = {one["what"]: one["detail"] for one in manifest["skipped"]}
    assert {one["reason"] for one in manifest["skipped"]} == {"no_detector"}
    assert set(named) == {f"{study}/{s}" for study in ("7", "12", "100") for s in ("22", "33")}
    assert named["7/22"] == "Sagittal T1, series of 4 files"
    read_by = {one["series_id"]: one["read_by"] for one in manifest["series"]}
    assert read_by == {"11": "spinal", "22": None, "33": None}
    counts = manifest["counts"]
    assert counts["files_of_series_not_read"] == 3 * (4 + 5) and counts["files_decoded"] == 3 * 3
    assert counts["files"] == counts["files_decoded"] + counts["files_of_series_not_read"]


def test_a_study_with_none_of_its_series_has_no_rows(tmp_path: Path) -> None:
    """Nothing asks for its rows: no prior is written, and that it was not scored is a fault."""
    images = tmp_path / "root" / "test_images"
    write_clinical_study(images, "1")
    write_clinical_study(images, "2", counts=(0, 3, 3))
    output = tmp_path / "out.csv"
    words = ("--bundle", partial(tmp_path / "b", (SPINAL,)), "--output", output)
    assert run(tmp_path / "root", *words) == 3
    assert [line.split("_")[0] for line in lines_of(output)[1:]] == ["1"] * 5
    skipped = manifest_of(output)["skipped"]
    assert [one["what"] for one in skipped if one["reason"] == "no_series_to_score"] == ["2"]


def test_a_table_asks_for_the_rows_of_the_groups_there_are(root: Path, tmp_path: Path) -> None:
    """A series of another group that the table names and nobody sent is no fault."""
    kinds = [(study, SERIES[group], group.series_kind) for study in ("7", "12") for group in GROUPS]
    with (root / "test_series_descriptions.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("study_id", "series_id", "series_description"), *kinds])
    shutil.rmtree(root / "test_images" / "100")
    shutil.rmtree(root / "test_images" / "7" / "22")
    output = tmp_path / "out.csv"
    words = ("--bundle", partial(tmp_path / "b", (SPINAL, SUBARTICULAR)), "--output", output)
    assert run(root, *words) == 0
    shutil.rmtree(root / "test_images" / "7" / "11")
    assert run(root, *words) == 3
    manifest = manifest_of(output)
    assert [(one["study_id"], one["group"]) for one in manifest["filled_from_prior"]] == [
        ("7", "spinal")
    ]
    assert manifest["counts"]["rows"] == 2 * 15


def test_the_table_for_a_person_has_its_columns_only(root: Path, tmp_path: Path) -> None:
    with Scorer(partial(tmp_path / "b", (SUBARTICULAR,)), device="cpu") as scorer:
        score = next(iter(scorer.score(find_studies(root))))
    table = study_table(score).splitlines()
    assert table[1].split() == ["Left", "Subarticular", "Right", "Subarticular"]
    assert len(table) == 7


def test_an_interrupted_run_goes_on(root: Path, tmp_path: Path) -> None:
    """Its journal holds what was not read, too; --strict stops at the second study's fault."""
    bundle, whole = partial(tmp_path / "b", (FORAMINAL,)), tmp_path / "whole.csv"
    assert run(root, "--bundle", bundle, "--output", whole) == 0
    series, output = root / "test_images" / "12" / "22", tmp_path / "out.csv"
    shutil.move(series, tmp_path / "aside")
    words, each = (root, "--bundle", bundle, "--output", output), Sizes(1, small_job=0)
    assert run(*words, "--strict", sizes=each) == 1 and not output.exists()
    shutil.move(tmp_path / "aside", series)
    assert run(*words, "--strict", "--resume", sizes=each) == 0
    assert output.read_bytes() == whole.read_bytes()
    manifest = manifest_of(output)
    assert manifest["resumed_after_studies"] == 1
    assert manifest["counts"] == manifest_of(whole)["counts"]
    assert manifest["groups_not_in_bundle"] == ["spinal", "subarticular"]
