"""``rsna-run`` as it is typed: files, exit codes, one line for each fault."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import run, run_here
from ending import DEADLINE_S, wait_for
from toys import write_clinical_study

from rsna_lumbar.runtime.dicom.dataset import open_dicom

PAUSED = str(Path(__file__).parents[1] / "support" / "paused_run.py")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(toy_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_root, tmp_path / "root"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_clean_run(root: Path, toy_bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    output, evidence = tmp_path / "out.csv", tmp_path / "evidence.jsonl"
    code = run(root, "--bundle", toy_bundle, "--output", output, "--evidence", evidence)
    captured = capsys.readouterr()
    assert code == 0
    assert captured.out == ""
    assert "3 of 3 studies scored (36 slices, 75 rows) -> " in captured.err
    rows = rows_of(output)
    assert list(rows[0]) == ["row_id", "normal_mild", "moderate", "severe"]
    assert [row["row_id"] for row in rows] == sorted(row["row_id"] for row in rows)
    manifest = json.loads((tmp_path / "out.run.json").read_text())
    assert manifest["notice"].startswith("Research use only")
    assert manifest["counts"]["rows"] == len(rows) == 75
    assert manifest["skipped"] == manifest["filled_from_prior"] == []
    assert len(manifest["series"]) == 9
    lines = [json.loads(line) for line in evidence.read_text().splitlines()]
    assert len(lines) == 9
    for line in lines:
        for location in line["locations"]:
            for place in location["from"]:
                assert (root / place["file"]).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "evidence.jsonl", "out.csv", "out.run.json", "root",
    ]  # fmt: skip


def test_the_same_run_gives_the_same_bytes(root: Path, toy_bundle: Path, tmp_path: Path) -> None:
    def outputs(name: str, workers: int) -> tuple[bytes, bytes]:
        output, evidence = tmp_path / f"{name}.csv", tmp_path / f"{name}.jsonl"
        words = ("--output", output, "--evidence", evidence, "--workers", workers)
        assert run(root, "--bundle", toy_bundle, *words) == 0
        return output.read_bytes(), evidence.read_bytes()

    assert outputs("a", 1) == outputs("b", 1) == outputs("c", 8)


def test_relevant_slices_only(toy_bundle: Path, tmp_path: Path) -> None:
    """19 sagittal slices 4 mm apart: 25 mm to either side of the middle hold 13, 40 mm all."""
    write_clinical_study(tmp_path / "root" / "test_images", "5", counts=(19, 19, 3))
    counts = {}
    for slices in ("all", "relevant"):
        output = tmp_path / f"{slices}.csv"
        words = ("--output", output, "--slices", slices, "--threads", 1)
        assert run_here(tmp_path / "root", "--bundle", toy_bundle, *words) == 0
        manifest = json.loads((tmp_path / f"{slices}.run.json").read_text())
        assert manifest["options"]["slices"] == slices
        counted = manifest["counts"]
        counts[slices] = (counted["slices_scored"], counted["slices_not_selected"])
    assert counts == {"all": (41, 0), "relevant": (35, 6)}


def spoil(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "not_dicom":
        path.write_text("this is no DICOM file")
    elif kind == "bad_pixels":
        path.write_bytes(content[:-500])
    elif kind == "no_pixels":
        with open_dicom(path) as dataset:
            del dataset.PixelData
            dataset.save_as(path)
    elif kind == "unknown_transfer_syntax":
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0"))


@pytest.mark.parametrize(
    ("kind", "code"),
    [("not_dicom", 0), ("bad_pixels", 3), ("no_pixels", 3), ("unknown_transfer_syntax", 3)],
)
def test_a_bad_file_is_named_and_everything_else_scored(
    root: Path, toy_bundle: Path, tmp_path: Path, capsys: Capture, kind: str, code: int
) -> None:
    """Files that are no DICOM at all are counted and listed, but are no fault of the run."""
    clean, output = tmp_path / "clean.csv", tmp_path / "out.csv"
    assert run_here(root, "--bundle", toy_bundle, "--output", clean) == 0
    spoil(root / "test_images" / "12" / "22" / "2.dcm", kind)
    capsys.readouterr()
    assert run_here(root, "--bundle", toy_bundle, "--output", output) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if "2.dcm" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"skipped: test_images/12/22/2.dcm: {kind}")
    manifest = json.loads((tmp_path / "out.run.json").read_text())
    assert [(s["reason"], s["what"]) for s in manifest["skipped"]] == [
        (kind, "test_images/12/22/2.dcm")
    ]
    counts = manifest["counts"]
    assert counts["files"] == counts["files_decoded"] + counts["files_skipped"] == 36
    assert counts["files_skipped"] == 1
    assert manifest["decoders"] == {"Explicit VR Little Endian: as stored": 35}
    before, after = rows_of(clean), rows_of(output)
    assert len(after) == 75
    others = [(a, b) for a, b in zip(before, after, strict=True) if "12_" not in a["row_id"][:3]]
    assert len(others) == 50
    assert all(a == b for a, b in others)


def test_a_missing_series_is_filled_and_said(
    root: Path, toy_bundle: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.rmtree(root / "test_images" / "12" / "11")
    output = tmp_path / "out.csv"
    assert run_here(root, "--bundle", toy_bundle, "--output", output) == 3
    assert "filled from the prior: 12: series_missing (Sagittal T2/STIR)" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "out.run.json").read_text())
    assert manifest["filled_from_prior"] == [
        {"study_id": "12", "group": "spinal", "reason": "series_missing"}
    ]
    assert len(rows_of(output)) == 75


def test_only_the_studies_of_a_list(root: Path, toy_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("study_id\n7\n")
    out = tmp_path / "out.csv"
    assert (
        run_here(root, "--bundle", toy_bundle, "--output", out, "--studies", tmp_path / "list.csv")
        == 0
    )
    assert {row["row_id"].split("_")[0] for row in rows_of(out)} == {"7"}
    assert len(rows_of(out)) == 25


def test_strict_writes_nothing(root: Path, toy_bundle: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "test_images" / "12" / "11")
    output = tmp_path / "out.csv"
    output.write_text("old")
    assert run_here(root, "--bundle", toy_bundle, "--output", output, "--strict") == 1
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "root"]


def test_a_study_without_any_kind_gets_no_rows(
    root: Path, toy_bundle: Path, tmp_path: Path, capsys: Capture
) -> None:
    for path in (root / "test_images" / "7").rglob("*.dcm"):
        path.write_text("broken")
    output = tmp_path / "out.csv"
    assert run_here(root, "--bundle", toy_bundle, "--output", output) == 3
    assert "no rows: 7: no_series_to_score" in capsys.readouterr().err
    assert len(rows_of(output)) == 50


def failing_words(case: str, root: Path, bundle: Path, tmp_path: Path) -> tuple[object, ...]:
    output = tmp_path / "out.csv"
    if case == "corrupt bundle":
        (bundle / "bundle.json").write_text("{")
    if case == "other model":
        model = next(bundle.glob("spinal-*"))
        model.write_bytes(model.read_bytes() + b"x")
    if case == "no data":
        root = tmp_path / "absent"
    if case == "no output folder":
        output = tmp_path / "absent" / "out.csv"
    words: tuple[object, ...] = (root, "--bundle", bundle, "--output", output)
    if case == "no gpu":
        words += ("--device", "cuda:42")
    if case == "no bundle":
        words = (root, "--output", output)
    if case == "demo and data":
        words += ("--demo",)
    if case == "output is a device":
        words = (root, "--bundle", bundle, "--output", os.devnull)
    if case == "no evidence folder":
        words += ("--evidence", tmp_path / "absent" / "e.jsonl")
    if case == "evidence is output":
        words += ("--evidence", output)
    if case == "output is the table":
        words += ("--series", output)
    if case == "output is a slice":
        words = (root, "--bundle", bundle, "--output", root / "test_images/12/11/1.dcm")
    if case == "evidence is a part":
        words += ("--evidence", output.with_name(f".{output.name}.part"))
    if case == "evidence is the journal":
        words += ("--evidence", output.with_name(f".{output.name}.journal"))
    if case == "output is the table beside":
        table = root / "test_series_descriptions.csv"
        table.write_text("study_id,series_id,series_description\n12,11,Sagittal T2/STIR\n")
        words = (root, "--bundle", bundle, "--output", table)
    if case == "output is of the bundle":
        words = (root, "--bundle", bundle, "--output", bundle / "bundle.json")
    if case == "evidence is in the bundle":
        words += ("--evidence", bundle / "e.jsonl")
    if case == "bad option":
        words += ("--batch-size", "0")
    return words


@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("corrupt bundle", 1, "bundle.json is damaged (not JSON); rebuild it with rsna-export"),
        ("other model", 1, "is not the file that bundle.json names"),
        ("no data", 1, "is not there"),
        ("no output folder", 2, "make it first"),
        ("output is a device", 2, "is no regular file"),
        ("no evidence folder", 2, "of --evidence is not there"),
        ("evidence is output", 2, "is another file of this run"),
        ("output is the table", 2, "is another file of this run"),
        ("output is a slice", 2, "is a DICOM file; name another"),
        ("output is of the bundle", 2, "lies in the bundle; name another"),
        ("evidence is in the bundle", 2, "lies in the bundle; name another"),
        ("evidence is a part", 2, "is another file of this run"),
        ("evidence is the journal", 2, "is another file of this run"),
        ("output is the table beside", 2, "is the table of this run's series"),
        ("no gpu", 2, "cuda:42 is not there"),
        ("no bundle", 2, "--bundle is missing"),
        ("demo and data", 2, "--demo brings its own"),
        ("bad option", 2, "--batch-size"),
    ],
)
def test_failures_are_one_line_and_leave_nothing(
    root: Path,
    toy_bundle: Path,
    tmp_path: Path,
    capsys: Capture,
    case: str,
    code: int,
    message: str,
) -> None:
    bundle = Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run(*failing_words(case, root, bundle, tmp_path)) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if "Error" in line]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in errors[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_debug_shows_the_traceback(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    words = (tmp_path, "--bundle", tmp_path / "empty", "--output", tmp_path / "out.csv")
    assert run(*words) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert run(*words, "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_real_files_end_to_end(
    real_mr: Path, toy_bundle: Path, tmp_path: Path, capsys: Capture
) -> None:
    """None of them shows a spine; a person who says so has three studies scored."""
    output, table = tmp_path / "out.csv", tmp_path / "series.csv"
    assert run(real_mr, "--bundle", toy_bundle, "--output", output) == 1
    manifest = json.loads((tmp_path / "out.run.json").read_text())
    assert manifest["counts"]["rows"] == manifest["counts"]["studies_scored"] == 0
    assert not output.exists()
    table.write_text(
        "study_id,series_id,series_description\n"
        + "".join(
            f"{one['study_id']},{one['series_id']},"
            f"{'Axial T2' if one['plane'] == 'axial' else 'Sagittal T2/STIR'}\n"
            for one in manifest["series"]
        )
    )
    words = ("--bundle", toy_bundle, "--output", output, "--series", table)
    assert run(real_mr, *words) == 3
    manifest = json.loads((tmp_path / "out.run.json").read_text())
    assert manifest["counts"]["slices_scored"] == 9 + 2 * 63 + 14
    assert manifest["counts"]["studies_scored"] == 3
    assert len(rows_of(output)) == 75
    decisions = {(s["read_by"], s["files"]) for s in manifest["series"]}
    assert decisions == {("subarticular", 9), ("subarticular", 14), ("spinal", 63)}
    assert manifest["counts"]["skipped"] == {"not_dicom": 5, "series_missing": 6}


def test_a_reader_that_goes_away_ends_nothing(tmp_path: Path) -> None:
    """As with ``| head``, or a terminal that was closed: both streams are broken from the start."""
    read, write = os.pipe()
    os.close(read)
    program = "from rsna_lumbar.runtime.cli import main; main()"
    words = [sys.executable, "-c", program, "--demo", "--output", str(tmp_path / "out.csv")]
    done = subprocess.run(words, stdout=write, stderr=write, timeout=DEADLINE_S)
    os.close(write)
    assert done.returncode == 0
    assert len(rows_of(tmp_path / "out.csv")) == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.run.json"]


@pytest.mark.parametrize("broken", ["2>/dev/full", ">/dev/full", "2>&-", ">&- 2>&- <&-"])
def test_messages_that_cannot_be_written_end_nothing(tmp_path: Path, broken: str) -> None:
    """The disk with the log is full, or there are no standard streams at all."""
    program = "from rsna_lumbar.runtime.cli import main; main()"
    output = tmp_path / "out.csv"
    script = f'"$0" -c "{program}" --demo --workers 2 --output {output} {broken}'
    assert subprocess.run(["sh", "-c", script, sys.executable], timeout=DEADLINE_S).returncode == 0
    assert len(rows_of(output)) == 50
    assert json.loads(output.with_suffix(".run.json").read_text())["skipped"] == []
    script = f'"$0" -c "{program}" {tmp_path / "absent"} {broken}'
    assert subprocess.run(["sh", "-c", script, sys.executable], timeout=DEADLINE_S).returncode == 2


@pytest.mark.parametrize(
    ("send", "number", "code", "said"),
    [(os.killpg, signal.SIGINT, 130, "Interrupted."), (os.kill, signal.SIGTERM, 143, "")],
)
def test_a_signal_ends_cleanly_and_keeps_the_old_output(
    root: Path,
    toy_bundle: Path,
    tmp_path: Path,
    send: Callable[[int, int], None],
    number: int,
    code: int,
    said: str,
) -> None:
    """Ctrl-C reaches the command and its decoding processes alike, a kill the command alone."""
    output = tmp_path / "out.csv"
    output.write_text("old")
    sign = tmp_path.parent / f"{number}-waits"
    words = [root, "--bundle", toy_bundle, "--output", output, "--workers", "2"]
    running = subprocess.Popen(
        [sys.executable, PAUSED, "1", str(sign), *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stderr is not None
    with running, running.stderr:
        assert "onnxruntime fp32 on" in running.stderr.readline()
        wait_for(sign.exists)
        send(running.pid, number)
        errors = running.stderr.read()
        assert running.wait(timeout=DEADLINE_S) == code
    lines = [line for line in errors.splitlines() if line and "kept for --resume" not in line]
    assert lines == ([said] if said else [])
    assert output.read_text() == "old"
    left = {path.name for path in tmp_path.iterdir()} - {"out.csv", "root"}
    assert left == {".out.csv.part", ".out.csv.journal"}
    assert "2 studies are done and kept for --resume" in errors
    assert run(root, "--bundle", toy_bundle, "--output", output, "--resume") == 0
    assert run(root, "--bundle", toy_bundle, "--output", tmp_path / "whole.csv") == 0
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
