"""Faulty files by the hundred among good studies: each named once, nothing else changed by them.

Every fault lies in a series with two good slices. With ``-m slow`` the faults are made from real
slices in seven transfer syntaxes, and there are more than a thousand.
"""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import SCORED, Fault, faults
from toys import SYNTAXES, slice_pixels, write_as, write_clinical_slice, write_clinical_study

from rsna_lumbar.benchmarks.harness.process_tree import PeakMemory
from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.decode.worker_pool import DecodingPool
from rsna_lumbar.runtime.dicom.header import read_header
from rsna_lumbar.runtime.dicom.series_kind import plane_of
from rsna_lumbar.runtime.inference.pipeline import STUDIES_A_CHUNK
from rsna_lumbar.runtime.studies.finder import stream_studies
from rsna_lumbar.runtime.studies.study import Inventory

RUN = (sys.executable, "-c", "from rsna_lumbar.runtime.cli import main; main()")
FAULTS_A_STUDY = 10
GOOD_STUDIES = STUDIES_A_CHUNK + 8  # a chunk of their own, and some among the others
MOST_MEMORY_MB = 1500
SERIES: Mapping[str, Group] = {"11": SPINAL, "22": FORAMINAL, "33": SUBARTICULAR}
SERIES_OF = {"sagittal": "11", "axial": "33"}


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind."""

    code: int
    said: str
    peak_mb: float
    rows: Mapping[str, str]  # row id -> line
    manifest: Mapping[str, Any]

    def reasons(self, paths: Container[str] | None = None) -> dict[str, str]:
        """What was named, or what of some paths was, each once, with the reason."""
        skips = [*self.manifest["skipped"], *self.manifest["doubtful"]]
        named = [one["what"] for one in skips if paths is None or one["what"] in paths]
        assert len(named) == len(set(named))
        return {skip["what"]: skip["reason"] for skip in skips}


def run(root: Path, bundle: Path, output: Path, *words: str) -> Run:
    command = [*RUN, str(root), "--bundle", str(bundle), "--output", str(output), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        watch = PeakMemory(process.pid)
        said, _ = process.communicate(timeout=600)
        peak_mb = watch.stop()
    assert output.exists(), said.decode()
    with output.open(newline="") as stream:
        rows = {row[0]: ",".join(row) for row in csv.reader(stream)}
    manifest = json.loads(output.with_suffix(".run.json").read_text())
    return Run(process.returncode, said.decode(), peak_mb or 0.0, rows, manifest)


def write_good(images: Path) -> list[str]:
    """The first chunk whole, and every hundredth number after it."""
    numbers = [*range(1000, 1000 + STUDIES_A_CHUNK), *range(2050, 2050 + 100 * 8, 100)]
    for number in numbers:
        write_clinical_study(images, str(number), seed=number, counts=(2, 1, 2))
    return list(map(str, numbers))


def write_faulty(images: Path, kinds: Sequence[Fault], series: str) -> dict[str, Fault]:
    """Ten faults a study, in one of its series; path -> what is wrong with it."""
    written = {}
    for index, fault in enumerate(kinds):
        study = images / str(2000 + index // FAULTS_A_STUDY * 8)
        if index % FAULTS_A_STUDY == 0:
            write_clinical_study(images, study.name, seed=index, counts=(2, 2, 2))
        before, between, behind = 0, 1, 999  # slices 1 and 2
        place = (before, between, behind)[index % 3]
        path = study / series / f"{place} {index} fäult.dcm"
        path.write_bytes(fault.content)
        written[path.relative_to(images.parent).as_posix()] = fault
    return written


def write_table(images: Path) -> None:
    """What each series is: slices of brains and phantoms are among the faults."""
    lines = [
        f"{study.name},{series},{group.series_kind}"
        for study in images.iterdir()
        for series, group in SERIES.items()
    ]
    table = images.parent / "test_series_descriptions.csv"
    table.write_text("\n".join(["study_id,series_id,series_description", *lines]) + "\n")


def check(slices: Sequence[Path], mutants: int, bundle: Path, folder: Path) -> Counter[str]:
    """Run over good studies, and over them with faulty ones between; count of each verdict."""
    images = folder / "root" / "test_images"
    good = write_good(images)
    write_table(images)
    clean = run(folder / "root", bundle, folder / "clean.csv", "--workers", "2")
    assert clean.code == 0
    kinds = list(faults(slices, mutants=mutants))
    orientation = read_header(slices[0]).orientation
    assert orientation is not None
    written = write_faulty(images, kinds, SERIES_OF[plane_of(orientation)])
    write_table(images)
    found = run(folder / "root", bundle, folder / "found.csv", "--workers", "2")
    assert found.code == 3
    assert "Traceback" not in found.said and "panicked" not in found.said
    assert found.peak_mb < MOST_MEMORY_MB
    # Good studies
    require_same_rows(clean.rows, found.rows)
    for row, line in clean.rows.items():
        if row.split("_")[0] in good[:STUDIES_A_CHUNK]:
            assert found.rows[row] == line
    studies = len(list(images.iterdir()))
    assert len(found.rows) == 1 + 25 * studies
    # Faults
    reasons = found.reasons()
    assert set(reasons) <= set(written)
    wrong = {
        (fault.name, reasons.get(path, SCORED))
        for path, fault in written.items()
        if reasons.get(path, SCORED) not in fault.fits
    }
    assert not wrong
    counts = found.manifest["counts"]
    assert counts["files"] == (
        counts["files_decoded"] + counts["files_skipped"] + counts["files_of_series_not_read"]
    )
    assert counts["files_skipped"] == len(found.manifest["skipped"])
    verdicts = Counter(reasons.get(path, SCORED) for path in written)
    named = {**counts["skipped"], **counts["doubtful"]}
    assert named == {name: n for name, n in verdicts.items() if name != SCORED}
    return verdicts


def require_same_rows(clean: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Each row of the clean run is there, with its values."""
    for row, line in clean.items():
        if row != "row_id":
            ours, theirs = (np.array(text.split(",")[1:], float) for text in (found[row], line))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def write_slices(folder: Path) -> list[Path]:
    """One slice in five transfer syntaxes."""
    folder.mkdir()
    return [
        write_as(folder / f"{number}.dcm", slice_pixels(5, (64, 56)), syntax)
        for number, syntax in enumerate(SYNTAXES)
    ]


def test_hundreds_of_faults(toy_bundle: Path, tmp_path: Path) -> None:
    verdicts = check(write_slices(tmp_path / "slices"), 100, toy_bundle, tmp_path)
    assert verdicts.total() > 400
    assert {*verdicts} >= {SCORED, "not_dicom", "not_mr_image", "unreadable", "bad_pixels"}


def test_hundreds_of_faults_in_a_tree(toy_bundle: Path, tmp_path: Path) -> None:
    """Told by headers alone: the faults are studies, or strays, among the good ones."""
    images = tmp_path / "archive"
    write_good(images)
    clean = run(images, toy_bundle, tmp_path / "clean.csv")
    kinds = list(faults(write_slices(tmp_path / "slices"), mutants=100))
    written = {}
    for index, fault in enumerate(kinds):
        path = images / ("before", "1004/11", "zz")[index % 3] / f"{index} fäult.dcm"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(fault.content)
        written[path.relative_to(images).as_posix()] = fault
    found = run(images, toy_bundle, tmp_path / "found.csv")
    assert (clean.code, found.code) == (0, 3)
    assert "Traceback" not in found.said and "panicked" not in found.said
    assert found.peak_mb < MOST_MEMORY_MB
    require_same_rows(clean.rows, found.rows)
    reasons = found.reasons(written)
    # These may be a series of their own, which is named in place of its files.
    lost = ("cut at 1/20", "zeros from 1/20", "zeros from 2/20")
    others = ("coronal", "huge matrix", "huge matrix and many frames")
    alone = {*others, *(f"syntax {n} {what}" for n in range(len(SYNTAXES)) for what in lost)}
    missed = {
        (fault.name, reasons.get(path, SCORED))
        for path, fault in written.items()
        if reasons.get(path, SCORED) not in fault.fits and fault.name not in alone
    }
    assert not missed


@pytest.mark.slow
def test_more_than_a_thousand_faults_of_real_slices(
    real_mr: Path, toy_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slices = sorted((real_mr / "transfer_syntaxes").glob("*.dcm"))
    verdicts = check(slices, 500, toy_bundle, tmp_path)
    with capsys.disabled():
        print("\n" + "\n".join(f"{count:6d}  {name}" for name, count in verdicts.most_common()))
    assert verdicts.total() > 1000


def test_what_is_no_file_at_all(toy_bundle: Path, tmp_path: Path) -> None:
    """Pipes, sockets, devices, links in a circle or to nowhere, folders, huge and private files."""
    series = tmp_path / "root" / "test_images" / "100" / "11"
    write_clinical_study(series.parent.parent, "100", counts=(2, 1, 1))
    expected = {}
    os.mkfifo(series / "pipe.dcm")
    with socket.socket(socket.AF_UNIX) as listener:
        where = Path.cwd()
        os.chdir(series)  # the name of a socket must be short
        try:
            listener.bind("socket.dcm")
        finally:
            os.chdir(where)
        (series / "device.dcm").symlink_to("/dev/zero")
        (series / "circle.dcm").symlink_to("circle.dcm")
        (series / "nowhere.dcm").symlink_to("absent.dcm")
        (series / "folder.dcm").mkdir()
        (series / "folder.dcm" / "deeper.dcm").write_bytes((series / "1.dcm").read_bytes())
        (series.parent / "loose.dcm").write_bytes(b"")
        (series.parent / "loop").symlink_to(series.parent)
        with (series / "sparse.dcm").open("wb") as stream:
            stream.write(bytes(128) + b"DICM")
            stream.truncate(2**31)
        expected = {
            "11/pipe.dcm": "not_dicom",
            "11/socket.dcm": "not_dicom",
            "11/device.dcm": "not_dicom",
            "11/circle.dcm": "unreadable",
            "11/nowhere.dcm": "unreadable",
            "11/folder.dcm/deeper.dcm": "outside_series",
            "11/sparse.dcm": "too_large",
            "loose.dcm": "not_dicom",
        }
        if os.geteuid():
            (series / "private.dcm").write_bytes((series / "1.dcm").read_bytes())
            (series / "private.dcm").chmod(0)
            expected["11/private.dcm"] = "unreadable"
        found = run(tmp_path / "root", toy_bundle, tmp_path / "out.csv", "--workers", "1")
    reasons = {
        skip["what"].removeprefix("test_images/100/"): skip["reason"]
        for skip in found.manifest["skipped"]
    }
    assert {name: reasons.get(name) for name in expected} == expected
    assert found.code == 3
    assert found.manifest["counts"]["slices_scored"] == 4


def test_a_file_that_vanishes(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between listing and reading."""
    root = tmp_path / "root"
    write_clinical_study(root / "test_images", "100", counts=(3, 1, 1))
    stream = stream_studies(root)
    (study,) = stream.studies
    (root / "test_images" / "100" / "11" / "2.dcm").unlink()
    with Scorer(toy_bundle, device="cpu") as scorer:
        (score,) = scorer.score(Inventory(root, (study,), ()))
    assert [(s.reason, s.what) for s in score.skips] == [
        (Reason.UNREADABLE, "test_images/100/11/2.dcm")
    ]


def test_a_bomb_costs_itself(tmp_path: Path) -> None:
    """The next file is decoded by the same process."""
    slices = tmp_path / "good.dcm"
    write_clinical_slice(slices, slice_pixels(1))
    bomb = next(one for one in faults([slices]) if one.name.startswith("deflated bomb"))
    (tmp_path / "bomb.dcm").write_bytes(bomb.content)
    with DecodingPool(1, Preprocessing(), largest_px=64) as pool:
        answers = [pool.submit(path, 64) for path in (tmp_path / "bomb.dcm", slices)]
        found = [answer() for answer in answers]
    assert isinstance(found[0], SkipFile) and found[0].reason == Reason.TOO_LARGE
    assert isinstance(found[1], list) and len(found[1]) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux; none was set")
def test_a_process_cannot_grow_beyond_its_limit() -> None:
    program = (
        "from rsna_lumbar.runtime.system.processes import limit_memory\n"
        "import numpy as np\n"
        "limit_memory(2**28)\n"
        "a = np.ones(2**26, np.uint8)\n"
        "try:\n"
        "    b = np.ones(2**29, np.uint8)\n"
        "except MemoryError:\n"
        "    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "refused", done.stderr
