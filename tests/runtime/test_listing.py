"""``rsna-run --list``, and the table that a person makes of it."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from commands import run_here as run
from toys import AXIAL, SAGITTAL, T1, T2, slice_pixels, write_clinical_slice

from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, SUBARTICULAR
from rsna_lumbar.runtime.core.reasons import Reason
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.runtime.studies.tables import read_series_table, read_study_list

Capture = pytest.CaptureFixture[str]
TABLE = "study_id,series_id,series_description\n"


@pytest.fixture
def tree(toy_root: Path, tmp_path: Path) -> Path:
    """The toy studies as a tree, each with a series that tells nothing."""
    tree = Path(shutil.copytree(toy_root / "test_images", tmp_path / "tree"))
    for study in ("12", "7"):
        for number in range(4):
            write_clinical_slice(
                tree / study / "44" / f"{number}.dcm",
                slice_pixels(number),
                StudyInstanceUID=f"1.2.{study}",
                SeriesInstanceUID=f"1.2.{study}.44",
                SeriesDescription="Doe^Jane's back",
                ImagePositionPatient=[4 * number, 0, 300],
                EchoTime=None,
                RepetitionTime=None,
            )
    return tree


def listed(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="") as stream:
        return {(row["study_id"], row["series_id"]): row for row in csv.DictReader(stream)}


def test_it_prints_who_reads_each_series_and_why(tree: Path, capsys: Capture) -> None:
    assert run(tree, "--list") == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if "1.2.12." in line]
    assert [line.split("  ")[0] for line in lines] == [
        "Sagittal T2/STIR", "Sagittal T1", "Axial T2", "-",
    ]  # fmt: skip
    assert "sagittal, echo 100 ms, repetition 3500 ms" in lines[0]
    assert "neither times nor a description that tell" in lines[3] and "Doe^Jane" in lines[3]
    assert "2 kind_not_needed" in captured.err  # no kind is missing without them


def test_hashed_it_shows_no_name_and_no_description(tree: Path, capsys: Capture) -> None:
    assert run(tree, "--list", "--ids", "hash") == 0
    captured = capsys.readouterr()
    assert captured.out.count("Study ") == 3
    for text in captured:
        assert "1.2.12" not in text and "Doe" not in text and str(tree) not in text


def test_hashed_it_writes_no_table(tree: Path, capsys: Capture) -> None:
    """Its names would mean nothing to --series."""
    output = tree.parent / "series.csv"
    assert run(tree, "--list", "--ids", "hash", "--output", output) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: --list --output is not for --ids hash: ")
    assert not output.exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--bundle", "b"], "--bundle"),
        (["--strict", "--resume"], "--resume, --strict"),
        (["--evidence", "e.jsonl", "--backend", "auto"], "--backend, --evidence"),
        (["--slices", "all", "--trust", "--workers", "1"], "--workers, --slices, --trust"),
    ],
)
def test_options_that_it_does_not_use_are_refused(
    tree: Path, capsys: Capture, words: list[str], named: str
) -> None:
    assert run(tree, "--list", *words) == 2
    captured = capsys.readouterr()
    assert captured.err == f"Error: --list does not use {named}; leave it out\n"
    assert not captured.out
    assert run(tree, "--list", "--quiet", "--debug") == 0


def test_without_data_it_asks_for_data(capsys: Capture) -> None:
    assert run("--list") == 2
    assert "DATA is missing; give DATA with --list" in capsys.readouterr().err


@pytest.mark.parametrize(
    "case",
    ["slice", "no preamble", "zip", "gzip", "series", "studies", "beside", "aside", "folder"],
)
def test_it_writes_over_no_input(
    toy_root: Path, tmp_path: Path, capsys: Capture, case: str
) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    one = output = root / "test_images" / "12" / "11" / "1.dcm"
    words: tuple[object, ...] = (root, "--list")
    table = tmp_path / "series.csv"
    table.write_text(f"{TABLE}12,11,Sagittal T2/STIR\n")
    if case == "no preamble":
        one.write_bytes(one.read_bytes()[132:])
    if case == "zip":
        with zipfile.ZipFile(output := root / "a.csv", "w") as archive:
            archive.write(one, "1.dcm")
    if case == "gzip":
        (output := root / "a.csv").write_bytes(gzip.compress(one.read_bytes()))
    if case in ("series", "studies"):
        output, words = table, (*words, f"--{case}", table)
    if case == "beside":
        output = Path(shutil.copy(table, root / "test_series_descriptions.csv"))
    if case == "aside":
        words = (*words, "--series", table.rename(tmp_path / ".out.csv.part"))
        output = tmp_path / "out.csv"
    if case == "folder":
        output = root
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert run(*words, "--output", output) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert len(errors) == 1 and "name another" in errors[0]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_its_table_is_none_of_the_inputs(tree: Path, capsys: Capture) -> None:
    output = tree / "12" / "series.csv"
    (tree / "12" / ".series.csv.part").write_text("left by one that was killed")
    said = []
    for _ in range(2):
        assert run(tree, "--list", "--output", output) == 0
        said.append(capsys.readouterr())
    assert said[0] == said[1] and "not_dicom" not in said[0].err


def test_a_missing_kind_is_said(tree: Path, toy_bundle: Path, capsys: Capture) -> None:
    """It ends as a run would."""
    shutil.rmtree(tree / "12" / "22")
    shutil.rmtree(tree / "12" / "44")
    assert run(tree, "--list") == 3
    assert "missing: 1.2.12: Sagittal T1" in capsys.readouterr().err.splitlines()
    output = tree.parent / "out.csv"
    assert run(tree, "--bundle", toy_bundle, "--output", output) == 3


@pytest.mark.parametrize("option", ["--studies", "--series"])
def test_a_study_that_is_not_there_is_said(
    tree: Path, tmp_path: Path, toy_bundle: Path, capsys: Capture, option: str
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"{TABLE}1.2.12,1.2.12.11,Sagittal T2/STIR\n1.2.404,1,broken\n")
    assert run(tree, "--list", option, table) == 3
    assert "missing: 1.2.404: every kind" in capsys.readouterr().err.splitlines()
    output = tmp_path / "out.csv"
    assert run(tree, option, table, "--bundle", toy_bundle, "--output", output) == 3


def test_a_study_without_any_kind_is_said(tree: Path, toy_bundle: Path, capsys: Capture) -> None:
    for name in ("11", "22", "33"):
        shutil.rmtree(tree / "12" / name)
    assert run(tree, "--list") == 3
    assert "missing: 1.2.12: every kind, so no rows" in capsys.readouterr().err.splitlines()
    assert run(tree, "--bundle", toy_bundle, "--output", tree.parent / "out.csv") == 3


def test_of_much_that_is_missing_the_first_is_said(tmp_path: Path, capsys: Capture) -> None:
    for number in range(12):
        write_clinical_slice(
            tmp_path / str(number) / "1.dcm",
            slice_pixels(number),
            StudyInstanceUID=f"1.2.{number}",
            SeriesInstanceUID=f"1.2.{number}.1",
            BodyPartExamined="LSPINE",
        )
    assert run(tmp_path, "--list") == 3
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("missing: ") for line in said) == 20
    assert said[-1] == "... and 4 more are missing"


def test_names_send_nothing_to_the_terminal(tree: Path, capsys: Capture) -> None:
    (tree / "12").rename(tree / "A\x07\rStudy\x1b[31m")
    (tree / "A\x07\rStudy\x1b[31m" / "22").rename(tree / "A\x07\rStudy\x1b[31m" / "b\n\x1b[2J")
    assert run(tree, "--list", "--ids", "folder") == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert all(sign.isprintable() for line in (*lines, *said.err.splitlines()) for sign in line)
    at = next(i for i, line in enumerate(lines) if line == "Study A??Study?[31m")
    titles, rows = lines[at + 1], lines[at + 2 : at + 6]
    assert any("b??[2J" in row for row in rows)
    assert {row[titles.index("plane") - 2 :][:10] for row in rows} == {"  sagittal", "  axial   "}


@pytest.mark.parametrize("name", ["=cmd", "+1", "-1", "@a", "'=cmd", "''-1", "'plain", "plain"])
def test_names_that_look_like_formulas_come_back(tree: Path, tmp_path: Path, name: str) -> None:
    (tree / "12" / "22").rename(tree / "12" / name)
    (tree / "12").rename(tree / name)
    table = tmp_path / "series.csv"
    assert run(tree, "--list", "--ids", "folder", "--output", table) == 0
    assert (name, f"{name}/{name}") in read_series_table(table)
    assert name in read_study_list(table)
    (study, *_) = find_studies(tree, table, studies=[name], ids="folder").studies
    assert {one.group_from for one in study.series} == {"table"}
    assert not [skip for skip in study.skips if skip.reason is Reason.SERIES_NOT_FOUND]


def test_of_a_header_only_the_description_is_shown(tmp_path: Path, capsys: Capture) -> None:
    """Which runs show nowhere; names and ids of the patient are not in it."""
    secrets = {"PatientName": "CANARY^A", "PatientID": "CANARYB", "ProtocolName": "CANARY C"}
    more = {"StudyDescription": "CANARY D", "InstitutionName": "CANARY E"}
    for number in range(4):
        write_clinical_slice(
            tmp_path / "tree" / f"{number}.dcm",
            slice_pixels(number),
            SeriesDescription="T2 sag shown",
            ImagePositionPatient=[4 * number, 0, 0],
            **secrets,
            **more,
        )
    output = tmp_path / "series.csv"
    run(tmp_path / "tree", "--list", "--output", output)
    captured = capsys.readouterr()
    for text in (captured.out, output.read_text()):
        assert "T2 sag shown" in text and "CANARY" not in text
    assert "CANARY" not in captured.err and "shown" not in captured.err


def test_a_corrected_table_is_followed(tree: Path, toy_bundle: Path, tmp_path: Path) -> None:
    table = tmp_path / "series.csv"
    assert run(tree, "--list", "--output", table) == 0
    as_listed, as_told = tmp_path / "listed.csv", tmp_path / "told.csv"
    words = (tree, "--bundle", toy_bundle, "--output")
    assert run(*words, as_told) == 0
    assert run(*words, as_listed, "--series", table) == 0
    assert as_listed.read_bytes() == as_told.read_bytes()
    rows = listed(table)
    rows["1.2.12", "1.2.12.44"]["series_description"] = "Sagittal T1"
    rows["1.2.12", "1.2.12.22"]["series_description"] = "broken by motion"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(next(iter(rows.values()))))
        writer.writeheader()
        writer.writerows(rows.values())
    assert run(*words, tmp_path / "corrected.csv", "--series", table) == 0
    manifest = json.loads((tmp_path / "corrected.run.json").read_text())
    read = {one["series_id"]: (one["read_by"], one["kind_from"]) for one in manifest["series"]}
    assert read["1.2.12.44"] == ("foraminal", "table")
    assert read["1.2.12.22"] == (None, "table")
    assert read["1.2.12.11"] == ("spinal", "table")


@pytest.mark.parametrize("names", ["folders", "uids", "paths"])
def test_a_table_means_series_of_a_tree_by_folder_or_uid(
    tree: Path, tmp_path: Path, names: str
) -> None:
    study, series = {
        "folders": ("12", "44"),
        "uids": ("1.2.12", "1.2.12.44"),
        "paths": ("12", "12/44"),
    }[names]
    table = tmp_path / "series.csv"
    table.write_text(f"{TABLE}{study},{series},Sagittal T1\n")
    deeper = tmp_path / "deeper"
    shutil.move(tree, deeper / "archive")
    data = deeper if names == "uids" else deeper / "archive"
    by_id = {one.study_id: one for one in find_studies(data, table).studies}
    (found,) = (one for one in by_id[study].series if one.group_from == "table")
    assert found.group is FORAMINAL and len(found.files) == 4
    assert by_id[study].listed
    assert len(by_id[study].of(SPINAL)) == len(by_id[study].of(SUBARTICULAR)) == 1


def test_rows_that_mean_nothing_are_due_and_named(tree: Path, tmp_path: Path) -> None:
    table = tmp_path / "series.csv"
    table.write_text(f"{TABLE}1.2.12,1.2.12.99,Axial T2\n1.2.404,1,Axial T2\n")
    by_id = {one.study_id: one for one in find_studies(tree, table).studies}
    for study, what in (("1.2.12", "1.2.12/1.2.12.99"), ("1.2.404", "1.2.404/1")):
        assert [s.what for s in by_id[study].skips if s.reason is Reason.SERIES_NOT_FOUND] == [what]
    assert by_id["1.2.404"].listed and not by_id["1.2.404"].series


def test_a_file_and_several_folders(tree: Path, tmp_path: Path, toy_bundle: Path) -> None:
    one = tree / "12" / "11" / "1.dcm"
    assert [study.study_id for study in find_studies(one).studies] == ["1.2.12"]
    both = find_studies([tree / "12", tree / "7"])
    assert [study.study_id for study in both.studies] == ["1.2.12", "1.2.7"]
    assert [len(series.files) for series in both.studies[0].series] == [3, 4, 5, 4]
    output = tmp_path / "out.csv"
    assert run(tree / "12", tree / "7", one, "--bundle", toy_bundle, "--output", output) == 0
    assert len(output.read_text().splitlines()) == 51


def test_studies_of_the_challenge_by_name(toy_root: Path) -> None:
    images = toy_root / "test_images"
    found = find_studies([images / "12", images / "7"])
    assert [study.study_id for study in found.studies] == ["12", "7"]


def test_nothing_there(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.txt").write_text("no DICOM")
    assert run(tmp_path, "--list") == 1
    assert "holds no MR image (1 other files)" in capsys.readouterr().err


def test_parts_of_a_series_are_corrected_by_name(tmp_path: Path) -> None:
    """One UID over two series: the second is called ~2."""
    for number, (orientation, times) in enumerate([(SAGITTAL, T2), (SAGITTAL, T1), (AXIAL, T2)]):
        for index in range(8):
            along = [4 * index, 0, 0] if orientation is SAGITTAL else [0, 0, -4 * index]
            write_clinical_slice(
                tmp_path / "tree" / f"{number}-{index}",
                slice_pixels(10 * number + index),
                ImageOrientationPatient=orientation,
                ImagePositionPatient=along,
                **times,
            )
    (study,) = find_studies(tmp_path / "tree").studies
    assert {one.series_id: one.group for one in study.series} == {
        "1.2.3.4": SPINAL, "1.2.3.4~2": FORAMINAL, "1.2.3.4~3": SUBARTICULAR,
    }  # fmt: skip
    assert [skip.reason for skip in study.skips] == [Reason.REGROUPED]
    table = tmp_path / "series.csv"
    table.write_text(f"{TABLE}1.2.3,1.2.3.4~2,nothing\n")
    (study,) = find_studies(tmp_path / "tree", table).studies
    assert not study.of(FORAMINAL) and study.of(SPINAL) and study.of(SUBARTICULAR)
