"""No header identity in anything that is written or said; canaries are planted to show it.

Every text and every number above 16 bits of the DICOM dictionary that is no part of describing
pixels carries a canary, and so do private elements, nested sequences and the file's meta
information. With ``--ids hash`` the names of folders and files are canaries too.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import commands
import pydicom
import pytest
from commands import run_here
from faults import odd_values, with_syntax
from hypothesis import given
from hypothesis import strategies as st
from interrupted_run import ENDED
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from toys import write_clinical_study

from rsna_lumbar.runtime.core.csv_cells import as_named, csv_line
from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.run.pseudonyms import Names, Pseudonyms, paths_hidden
from rsna_lumbar.runtime.studies.finder import find_studies

RUN = (sys.executable, "-c", "from rsna_lumbar.runtime.cli import main; main()")
INTERRUPTED = (sys.executable, str(Path(__file__).parents[1] / "support" / "interrupted_run.py"))
FAILING = (sys.executable, str(Path(__file__).parents[1] / "support" / "failing_run.py"))
RunInside = Callable[..., tuple[int, str]]
CANARY = "CANARY"
PIXEL_GROUP = 0x0028
TEXT = {"PN", "LO", "SH", "ST", "LT", "UT", "UC", "AE", "AS", "DA", "TM", "DT", "UR", "CS", "UI"}
# Numbers of 16 bits are too short to be told from others.
NUMBERS: dict[str, object] = {
    **dict.fromkeys(("IS", "UL", "SL", "UV", "SV"), 1987654321),
    **{"DS": "1987654.375", "FD": 1987654.375, "FL": 1987654.375},
}
DATE, TIME, AGE = "19010203", "010203.77", "077Y"  # what a date, a time and an age look like
# What a reader needs to find and decode pixels, and the names that a run may show on request.
NEEDED = {
    "SOPClassUID",
    "Modality",
    "ImageType",
    "PhotometricInterpretation",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "InstanceNumber",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "InversionTimes",
    "DiffusionBValue",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
}
PLANTED = (CANARY, "1.9.8.7.6.5", DATE, TIME, AGE, "19876543", "1987654.3")


def plant(dataset: Dataset) -> int:
    """Canaries in every text and number of the dictionary; how many."""
    dates = {"UI": "1.9.8.7.6.5.1", "DA": DATE, "TM": TIME, "DT": DATE + TIME, "AS": AGE}
    values: dict[str, object] = {**dates, **NUMBERS}
    count = 0
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if retired or not keyword or keyword in NEEDED or group in (0, 2):
            continue
        if vr in TEXT or (vr in NUMBERS and group != PIXEL_GROUP):
            dataset.add_new(tag, vr, values.get(vr, f"{CANARY}^{count}"))
            count += 1
    dataset.OtherPatientIDsSequence = Sequence([nested(3)])
    dataset.RequestAttributesSequence = Sequence([nested(1), nested(2)])
    meta = dataset.file_meta
    meta.MediaStorageSOPInstanceUID = "1.9.8.7.6.5.9"
    meta.SourceApplicationEntityTitle = CANARY
    meta.SendingApplicationEntityTitle = CANARY
    meta.ImplementationVersionName = CANARY
    block = dataset.private_block(0x0029, f"{CANARY} INC", create=True)
    block.add_new(0x01, "LO", f"{CANARY} private")
    block.add_new(0x02, "UN", f"{CANARY} raw".encode())
    dataset.SeriesDescription = f"{CANARY} SPINE"
    return count


def nested(depth: int) -> Dataset:
    """An item with a patient in it, so many sequences deep."""
    item = Dataset()
    item.PatientName, item.PatientID, item.PatientBirthDate = f"{CANARY}^in", CANARY, DATE
    if depth:
        item.ReferencedPatientSequence = Sequence([nested(depth - 1)])
    return item


def spoiled(path: Path) -> None:
    """Faulty files whose faults hold canaries: what they are skipped for must not quote them."""
    for number, change in enumerate(
        (
            lambda one: setattr(one, "PhotometricInterpretation", f"{CANARY} GREY"),
            lambda one: one.add_new("Rows", "LO", f"{CANARY} rows"),
            lambda one: one.add_new("BitsAllocated", "PN", f"{CANARY}^bits"),
            lambda one: setattr(one, "SOPClassUID", "1.9.8.7.6.5.2"),
            lambda one: one.pop("PixelData"),
            lambda one: setattr(one, "PixelData", one.PixelData[:100]),
        )
    ):
        with odd_values():
            dataset = pydicom.dcmread(path)
            change(dataset)  # type: ignore[no-untyped-call]
            dataset.save_as(path.with_name(f"9{number}.dcm"), enforce_file_format=False)
    path.with_name("98.dcm").write_bytes(path.read_bytes()[:3000])
    syntax = with_syntax(path.read_bytes(), f"1.9.8.7.6.5.{CANARY}".encode())
    path.with_name("97.dcm").write_bytes(syntax)
    path.with_name("99.dcm").write_text(f"{CANARY} is no DICOM")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies; the second lacks an axial series and holds every kind of spoiled file."""
    root = tmp_path_factory.mktemp("privacy") / "root"
    write_clinical_study(root / "test_images", "100", counts=(2, 1, 2))
    write_clinical_study(root / "test_images", "200", seed=1, counts=(2, 1, 0))
    planted = 0
    with odd_values():
        for path in sorted(root.rglob("*.dcm")):
            dataset = pydicom.dcmread(path)
            planted = plant(dataset)
            dataset.save_as(path)
    assert planted > 1000
    spoiled(root / "test_images" / "200" / "11" / "1.dcm")
    return root


def run(
    folder: Path,
    data: Path,
    bundle: Path,
    *words: str,
    program: tuple[str, ...] = RUN,
    verbosity: str = "--debug",
) -> tuple[int, str]:
    """At the highest verbosity unless another is given; exit code and everything said."""
    outputs = ("--output", str(folder / "out.csv"), "--evidence", str(folder / "out.jsonl"))
    done = subprocess.run(
        [*program, str(data), "--bundle", str(bundle), *outputs, verbosity, *words],
        capture_output=True,
        cwd=folder,
    )
    return done.returncode, (done.stdout + done.stderr).decode()


@contextmanager
def warnings_said() -> Iterator[None]:
    """On standard error, as in a process of the command; pytest makes them errors."""

    def say(message: Warning | str, *_: object) -> None:
        print(message, file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = say
        yield


@pytest.fixture
def run_inside(capfd: pytest.CaptureFixture[str]) -> RunInside:
    """The same in this process, which has imported what another would first import."""

    def run_inside(folder: Path, data: Path, bundle: Path, *words: str) -> tuple[int, str]:
        outputs = ("--output", folder / "out.csv", "--evidence", folder / "out.jsonl")
        capfd.readouterr()
        with chdir(folder), warnings_said():
            code = commands.run(data, "--bundle", bundle, *outputs, "--debug", *words)
        return code, "".join(capfd.readouterr())

    return run_inside


def everything(folder: Path, said: str) -> Iterator[tuple[str, bytes]]:
    """What was written, what was said, and the names of files, but for a private key."""
    yield "said", said.encode()
    for path in folder.rglob("*"):
        yield "name", path.name.encode()
        if path.is_file() and ".ids.csv" not in path.name:
            yield path.name, path.read_bytes()


@pytest.mark.parametrize("layout", ["challenge", "tree"])
@pytest.mark.parametrize(
    ("words", "code"),
    [((), 3), (("--strict",), 1), (("--workers", "2"), 3), (("--ids", "folder"), 3)],
)
def test_no_header_in_what_is_written_or_said(
    root: Path,
    toy_bundle: Path,
    tmp_path: Path,
    layout: str,
    words: tuple[str, ...],
    code: int,
    run_inside: RunInside,
) -> None:
    """With --workers in a process of its own, whose end is seen, too."""
    data = root
    if layout == "tree":
        data = Path(shutil.copytree(root / "test_images", tmp_path / "tree"))
    folder = tmp_path / "out"
    folder.mkdir()
    found, said = (run if words[:1] == ("--workers",) else run_inside)(
        folder, data, toy_bundle, *words
    )
    assert found == code, said
    assert "9.dcm" in said or "--strict" in words, said  # which stops at the first fault
    for where, content in everything(folder, said):
        for canary in PLANTED:
            assert canary.encode() not in content, where


def test_uids_are_shown_only_on_request(
    root: Path, toy_bundle: Path, tmp_path: Path, run_inside: RunInside
) -> None:
    shown = {}
    for ids in ("folder", "uid"):
        folder = tmp_path / ids
        folder.mkdir()
        run_inside(folder, root, toy_bundle, "--ids", ids)
        shown[ids] = any(b"1.2.100" in text for _, text in everything(folder, ""))
    assert shown == {"folder": False, "uid": True}


def named_after_patients(root: Path, tmp_path: Path, layout: str) -> Path:
    """The same studies; every folder and file below a root, and the root, has a telling name."""
    data = tmp_path / f"{CANARY} archive"
    images = data / "test_images" if layout == "challenge" else data
    for name in ("100", "200"):
        for series in (root / "test_images" / name).iterdir():
            target = images / f"{CANARY} Jane Doe {name}" / f"{CANARY} series {series.name}"
            target.mkdir(parents=True)
            for path in series.iterdir():
                shutil.copy(path, target / f"{CANARY} {path.name}")
    (images / f"{CANARY} Jane Doe 100" / f"{CANARY}.txt").write_text("a stray")
    return data


@pytest.mark.parametrize("layout", ["challenge", "tree"])
def test_what_an_interrupted_run_leaves_leaks_nothing(
    root: Path, toy_bundle: Path, tmp_path: Path, layout: str, run_inside: RunInside
) -> None:
    """Journal and parts, and what a resumption that is refused says."""
    data = named_after_patients(root, tmp_path, layout)
    folder = tmp_path / "out"
    folder.mkdir()
    code, said = run(folder, data, toy_bundle, "--ids", "hash", program=INTERRUPTED)
    assert code == ENDED, said
    left = {path.name for path in folder.iterdir()}
    assert left >= {".out.csv.part", ".out.csv.journal", ".out.jsonl.part", ".out.ids.csv.part"}
    for path in folder.iterdir():
        assert os.name != "posix" or stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in data.rglob("*.dcm"):
        os.utime(path, (1, 1))
    code, refused = run_inside(folder, data, toy_bundle, "--ids", "hash", "--resume")
    assert code == 2 and "changed since the run was interrupted" in refused
    for where, content in everything(folder, said + refused):
        for canary in (*PLANTED, "Jane", "1.2.100", "1.2.200"):
            assert canary.encode() not in content, where


def test_an_error_below_the_data_names_nothing_there(
    root: Path, toy_bundle: Path, tmp_path: Path
) -> None:
    """An error that no one expects, of a disk that fails while folders are listed."""
    data = named_after_patients(root, tmp_path, "challenge")
    folder = tmp_path / "out"
    folder.mkdir()
    program = (*FAILING, "listing")
    code, said = run(folder, data, toy_bundle, "--ids", "hash", program=program)
    assert code == 1
    assert said.splitlines()[-1] == "Error: a file or folder below DATA: disk failed"
    assert CANARY not in said and "Jane" not in said


@pytest.mark.parametrize("where", ["headers", "assembly"])
@pytest.mark.parametrize("verbosity", ["--quiet", "--debug"])
def test_an_unforeseen_error_is_not_quoted(
    root: Path, toy_bundle: Path, tmp_path: Path, where: str, verbosity: str
) -> None:
    """Nor is its cause; --debug shows their types and places."""
    data = named_after_patients(root, tmp_path, "challenge")
    folder = tmp_path / "out"
    folder.mkdir()
    program = (*FAILING, where)
    words = ("--ids", "hash")
    code, said = run(folder, data, toy_bundle, *words, program=program, verbosity=verbosity)
    assert code == 1, said
    lines = said.splitlines()
    assert lines[-1] == "Error: unexpected RuntimeError (--debug shows where)"
    if verbosity == "--debug":
        assert lines.count("Traceback (most recent call last):") == 2
        assert lines.index("ValueError") < lines.index("RuntimeError")
        assert "in fail" in said and "runtime/run/run.py" in said.replace(os.sep, "/")
    else:
        assert len(lines) == 1
    for place, content in everything(folder, said):
        for canary in (*PLANTED, "Jane", "1.2.100", "1.2.200"):
            assert canary.encode() not in content, place


@pytest.mark.parametrize("layout", ["challenge", "tree"])
def test_with_hashes_folders_and_files_are_canaries(
    root: Path, toy_bundle: Path, tmp_path: Path, layout: str, run_inside: RunInside
) -> None:
    data = named_after_patients(root, tmp_path, layout)
    folder = tmp_path / "out"
    folder.mkdir()
    code, said = run_inside(folder, data, toy_bundle, "--ids", "hash")
    assert code == 3, said
    for where, content in everything(folder, said):
        for canary in (*PLANTED, "Jane", "1.2.100", "1.2.200"):
            assert canary.encode() not in content, where
    key = folder / "out.ids.csv"
    if os.name == "posix":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with key.open(newline="") as stream:
        names = dict(csv.reader(stream))
    with (folder / "out.csv").open(newline="") as stream:
        ids = {row["row_id"].split("_")[0] for row in csv.DictReader(stream)}
    assert len(ids) == 2 and ids < names.keys()
    assert any(f"{CANARY} 99.dcm" in name for name in names.values())
    before = (folder / "out.csv").read_bytes()
    assert run_inside(folder, data, toy_bundle, "--ids", "hash")[0] == 3
    assert (folder / "out.csv").read_bytes() == before  # the key's secret is kept


@pytest.mark.parametrize(
    "damage",
    [
        lambda key: key[100:],  # without its secret
        lambda key: key.replace(b"secret,", b"secret,xyz", 1),
        lambda key: key[:-1] + b",1,2\n",
        lambda key: key + b"\xff\xfe,1\n",
        lambda key: key.replace(b"secret,", b"secret", 1),
    ],
)
def test_a_damaged_key_is_refused(
    toy_root: Path,
    toy_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[bytes], bytes],
) -> None:
    """Another secret would change every name without a word."""
    words = (toy_root, "--bundle", toy_bundle, "--output", tmp_path / "out.csv", "--ids", "hash")
    assert run_here(*words) == 0
    key, before = tmp_path / "out.ids.csv", (tmp_path / "out.csv").read_bytes()
    whole = key.read_bytes()
    key.write_bytes(damage(whole))
    assert run_here(*words) == 1
    said = capsys.readouterr().err
    assert f"Error: {key} is no whole key of --ids hash; restore it" in said
    assert (tmp_path / "out.csv").read_bytes() == before
    key.write_bytes(whole.rstrip(b"\n"))  # as some editors leave it
    assert run_here(*words) == 0
    assert (tmp_path / "out.csv").read_bytes() == before
    assert set(whole.splitlines()) <= set(key.read_bytes().splitlines())


@pytest.mark.parametrize(
    "case",
    ["empty", "absent", "kinds", "names", "list", "no list", "beside", "linked", "evidence"],
)
def test_with_hashes_no_error_and_no_option_names_anything(
    root: Path, toy_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    """Paths below DATA, cells of tables, and where the evidence goes."""
    data = named_after_patients(root, tmp_path, "challenge")
    folder = tmp_path / "out"
    folder.mkdir()
    evidence = folder / "out.jsonl"
    words: list[object] = ["--ids", "hash"]
    table = tmp_path / f"{CANARY} table.csv"
    if case == "empty":
        data = data / f"{CANARY} Jane Doe"
        data.mkdir()
    elif case == "absent":
        data = data / f"{CANARY} Jane Doe"
    elif case in ("kinds", "names"):
        cells = ("1,2,Jane T1", "Jane/Doe,2,Axial T2")[case == "names"]
        table.write_text(f"study_id,series_id,series_description\n{cells}\n")
        words += ["--series", table]
    elif case in ("beside", "linked"):
        beside = data / "test_series_descriptions.csv"
        beside.write_text("study_id,series_id,series_description\n1,2,Jane T1\n")
        data = data / "test_images"
        if case == "linked":
            (tmp_path / "test_images").symlink_to(data)
            data = tmp_path / "test_images"
    elif case == "no list":
        words += ["--studies", tmp_path / f"{CANARY} absent.csv"]
    elif case == "list":
        table.write_text("study_id\nJane Doe\n")
        words += ["--studies", table]
    else:
        evidence = tmp_path / f"{CANARY} Jane Doe.jsonl"
    words += ["--bundle", toy_bundle, "--output", folder / "out.csv", "--evidence", evidence]
    code = run_here(data, *words, "--debug")
    said = "".join(capfd.readouterr())
    assert code == (1 if case in ("empty", "absent", "list", "no list") else 3), said
    for where, content in everything(folder, said):
        for canary in (CANARY, "Jane"):
            assert canary.encode() not in content, (where, said)


def test_pseudonyms_follow_from_the_key_alone() -> None:
    first = Pseudonyms()
    found = [first(name) for name in ("a", "b/ä.dcm", "a", "=1+1")]
    key = first.key_lines()
    assert found[0] == found[2] and len(set(found)) == 3
    again = Pseudonyms(key)
    assert [again(name) for name in ("a", "b/ä.dcm", "a", "=1+1")] == found
    assert again.key_lines() == ""
    assert Pseudonyms()("a") != found[0]
    assert Names()("a") == "a" and Names().key_lines() == ""


@given(st.lists(st.text(), min_size=1))
def test_any_cell_comes_back_and_none_is_a_formula(texts: list[str]) -> None:
    (cells,) = csv.reader(io.StringIO(csv_line(texts), newline="")) if any(texts) else [texts]
    for cell, text in zip(cells, texts, strict=True):
        assert as_named(cell) == text
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


@given(st.lists(st.text()))
def test_pseudonyms_tell_names_apart(names: list[str]) -> None:
    hashed = Pseudonyms()
    assert len({hashed(name) for name in names}) == len(set(names))
    again = Pseudonyms(hashed.key_lines())
    assert [again(name) for name in names] == [hashed(name) for name in names]
    assert not again.key_lines()


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(sign: str) -> None:
    (cells,) = csv.reader([csv_line([f"{sign}cmd|' /C calc'!A0", "1,2", 'a"b'])])
    assert cells == [f"'{sign}cmd|' /C calc'!A0", "1,2", 'a"b']


@pytest.mark.parametrize("how", [os.path.abspath, os.path.relpath])
@pytest.mark.parametrize("case", ["empty", "absent", "inside", "not asked for"])
def test_with_hashes_what_several_data_have_in_common_is_not_named(
    toy_root: Path,
    toy_bundle: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    case: str,
    how: Callable[[Path], str],
) -> None:
    archive = tmp_path / f"{CANARY} Jane Doe"
    data = [archive / "one", archive / "other"]
    words: tuple[object, ...] = ("--ids", "hash")
    for number, folder in enumerate(data):
        folder.mkdir(parents=True)
        if case == "not asked for":
            shutil.copytree(toy_root / "test_images" / "12" / "11", folder / str(number))
            (tmp_path / "list.csv").write_text("study_id\nabsent\n")
            words = ("--ids", "hash", "--studies", tmp_path / "list.csv")
    if case == "absent":
        data.append(archive / "third")
    if case == "inside":
        (tmp_path / "link").symlink_to(data[0], target_is_directory=True)
        data = [tmp_path / "link", data[1], archive]
    for last in (("--list",), ("--bundle", toy_bundle, "--output", tmp_path / "out.csv")):
        code = run_here(*map(how, data), *words, *last)
        said = "".join(capfd.readouterr())
        assert code == 1 and "Error: " in said, said
        assert CANARY not in said and "Jane" not in said, said


def test_with_hashes_the_folder_above_several_studies_is_not_named(
    toy_root: Path, tmp_path: Path
) -> None:
    images = tmp_path / "Jane Doe" / "test_images"
    for name in ("1", "2"):
        shutil.copytree(toy_root / "test_images" / "12", images / name)
    data = [images / "1", images / "2"]
    expected = pytest.raises(DataError, match="two folders below DATA hold files of one study")
    with expected, paths_hidden(data, None, None):
        find_studies(data, ids="uid")
