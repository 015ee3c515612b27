"""What rests on the prior alone is said first, and counts as nothing scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest
from commands import run_here as run
from toys import slice_pixels, write_clinical_slice, write_clinical_study

Capture = pytest.CaptureFixture[str]
TABLE = "study_id,series_id,series_description\n"


def manifest_of(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.with_suffix(".run.json").read_text())
    return found


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.csv"


def spoil(folder: Path) -> None:
    for path in folder.rglob("*.dcm"):
        path.write_text("no DICOM")


def test_rows_that_a_table_asks_for_are_written_and_said_to_be_the_prior(
    toy_root: Path, toy_bundle: Path, tmp_path: Path, output: Path, capsys: Capture
) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    spoil(root)
    lines = [f"{study},{series},Axial T2" for study in ("12", "7") for series in ("33", "11")]
    table = tmp_path / "series.csv"
    table.write_text(TABLE + "\n".join(lines) + "\n")
    words = (root, "--bundle", toy_bundle, "--output", output, "--series", table)
    assert run(*words, "--studies", table) == 3
    said = capsys.readouterr().err.splitlines()
    first = next(line for line in said if "WAS SCORED" in line)
    assert first == "NOTHING WAS SCORED: all 50 rows are the bundle's prior (mostly not_dicom: 24)"
    assert said.index(first) == 1  # behind the line that names the model
    assert said[-1].startswith("0 of 2 studies scored, 2 of the prior alone (0 slices, 50 rows")
    manifest = manifest_of(output)
    assert manifest["warnings"] == [first]
    assert manifest["counts"]["studies_scored"] == 0
    assert manifest["counts"]["studies_of_the_prior_alone"] == 2
    assert len(output.read_text().splitlines()) == 51


def test_a_group_that_was_never_scored_is_said_first(
    toy_root: Path, toy_bundle: Path, tmp_path: Path, output: Path, capsys: Capture
) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    for study in (root / "test_images").iterdir():
        spoil(study / "22")
    assert run(root, "--bundle", toy_bundle, "--output", output) == 3
    said = capsys.readouterr().err.splitlines()
    expected = (
        "NO SAGITTAL T1 WAS SCORED in any of 3 studies: its rows are the bundle's prior (mostly "
        "series_missing: 3; commonest reason: not_dicom: 12)"
    )
    assert said[1] == expected
    assert said[-1].startswith("3 of 3 studies scored (24 slices, 75 rows")
    manifest = manifest_of(output)
    assert manifest["warnings"] == [expected]
    assert manifest["counts"]["studies_scored_by_group"] == {"spinal": 3, "subarticular": 3}


def test_a_group_that_one_study_lacks_is_no_warning(
    toy_root: Path, toy_bundle: Path, tmp_path: Path, output: Path, capsys: Capture
) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    shutil.rmtree(root / "test_images" / "12" / "22")
    assert run(root, "--bundle", toy_bundle, "--output", output) == 3
    assert "WAS SCORED" not in capsys.readouterr().err
    assert manifest_of(output)["warnings"] == []


@pytest.mark.parametrize("what", ["no DICOM", "no lumbar spine", "nothing"])
def test_no_row_is_a_failure_with_a_manifest_that_names_what_was_there(
    toy_bundle: Path, tmp_path: Path, output: Path, capsys: Capture, what: str
) -> None:
    """The old submission stays as it was."""
    output.write_text("old\n")
    data = tmp_path / "data"
    data.mkdir()
    if what == "no DICOM":
        (data / "notes.txt").write_text("text")
    if what == "no lumbar spine":
        for number in range(8):
            write_clinical_slice(
                data / f"{number}.dcm", slice_pixels(number), BodyPartExamined="KNEE"
            )
    assert run(data, "--bundle", toy_bundle, "--output", output) == 1
    said = capsys.readouterr().err
    assert "Error: nothing to score: no series of a lumbar spine was found" in said
    assert "Traceback" not in said
    assert said.count("nothing to score") == 1 and "studies scored" not in said
    assert output.read_text() == "old\n"
    manifest = manifest_of(output)
    reasons = {"no DICOM": "not_dicom", "no lumbar spine": "kind_not_needed"}
    assert manifest["counts"]["rows"] == 0
    assert what == "nothing" or reasons[what] in manifest["counts"]["skipped"]
    assert manifest["warnings"][0].startswith("nothing to score")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["data", "out.csv", "out.run.json"]


def test_a_kind_that_could_not_be_told_is_the_reason_of_what_is_missing(
    toy_root: Path, toy_bundle: Path, tmp_path: Path, output: Path, capsys: Capture
) -> None:
    """However many other files are left out."""
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    for study in (root / "test_images").iterdir():
        for number, path in enumerate(sorted((study / "22").iterdir())):
            write_clinical_slice(
                path,
                slice_pixels(number),
                StudyInstanceUID=f"1.2.{study.name}",
                SeriesInstanceUID=f"1.2.{study.name}.22",
                ImagePositionPatient=[4 * number, 0, 0],
                EchoTime=None,
                RepetitionTime=None,
            )
            (study / f"{number}.txt").write_text("no DICOM")
    assert run(root, "--bundle", toy_bundle, "--output", output) == 3
    (line,) = manifest_of(output)["warnings"]
    assert line.endswith("(mostly series_missing: 3; commonest reason: kind_unknown: 3)")
    assert line in capsys.readouterr().err.splitlines()


def test_a_kind_of_which_nothing_can_be_read(
    toy_root: Path, toy_bundle: Path, tmp_path: Path, output: Path
) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    for path in (root / "test_images").glob("*/22/*"):
        path.write_bytes(path.read_bytes()[:-100])
    assert run(root, "--bundle", toy_bundle, "--output", output) == 3
    (line,) = manifest_of(output)["warnings"]
    assert line.endswith("(mostly no_readable_slice: 3; commonest reason: bad_pixels: 12)")


@pytest.mark.parametrize("named", [0, 1, 3])
def test_studies_without_a_body_part_are_counted(
    toy_bundle: Path, tmp_path: Path, output: Path, capsys: Capture, named: int
) -> None:
    """They are scored by sizes and place alone."""
    for number in range(3):
        write_clinical_study(tmp_path / "data", str(number), seed=number, counts=(2, 2, 2))
        for path in (tmp_path / "data" / str(number)).rglob("*.dcm") if number < named else ():
            dataset = pydicom.dcmread(path)
            dataset.BodyPartExamined = "LSPINE"
            dataset.save_as(path)
    assert run(tmp_path / "data", "--bundle", toy_bundle, "--output", output) == 0
    said = capsys.readouterr().err.splitlines()
    expected = f"{3 - named} of 3 studies: no header names a body part"
    assert (said[-2] == expected) == (named < 3)
    assert any("no header names" in line for line in said) == (named < 3)
    assert manifest_of(output)["counts"]["studies_without_body_part"] == 3 - named


def test_what_a_person_listed_needs_no_body_part(
    toy_root: Path, toy_bundle: Path, tmp_path: Path, output: Path, capsys: Capture
) -> None:
    table = tmp_path / "series.csv"
    kinds = (("11", "Sagittal T2/STIR"), ("22", "Sagittal T1"), ("33", "Axial T2"))
    rows = (f"{study},{one},{kind}" for study in ("12", "7", "100") for one, kind in kinds)
    table.write_text(TABLE + "\n".join(rows) + "\n")
    words = (toy_root, "--series", table, "--bundle", toy_bundle, "--output", output)
    assert run(*words) == 0
    assert "no header names" not in capsys.readouterr().err
