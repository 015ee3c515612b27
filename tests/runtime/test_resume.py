"""An interrupted run goes on: wherever it was killed, it ends with the bytes of a whole one."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import SMALL_CHUNKS, run_here
from killing import KILLED, calls_of, end_at_change, kill_at_call
from toys import write_clinical_study, write_toy_bundle

from rsna_lumbar.runtime.backends import Outputs
from rsna_lumbar.runtime.backends.onnxruntime import OnnxSession
from rsna_lumbar.runtime.bundle.manifest import read_bundle, write_manifest
from rsna_lumbar.runtime.core.errors import run_failed
from rsna_lumbar.runtime.run.journal import Journal

FORK = "fork"
pytestmark = [
    pytest.mark.skipif(not hasattr(os, FORK), reason="needs fork; no run was killed"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
STUDIES = 5
CHANGES = (
    *((os, name) for name in ("write", "fsync", "ftruncate", "replace", "chmod", "open")),
    (Path, "unlink"),
)
OUTPUTS = ("out.csv", "out.jsonl")
RANDOM_KILLS = 200


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("resume") / "root"
    for number in range(STUDIES):
        counts = (1 + number % 2, 1, number % 3)  # some without an axial slice
        write_clinical_study(root / "test_images", str(100 + number), seed=number, counts=counts)
    (root / "test_images" / "101" / "11" / "9.dcm").write_bytes(b"no DICOM")
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    write_toy_bundle(folder)
    return folder


def run(root: Path, bundle: Path, folder: Path, *words: object) -> int:
    """``rsna-run`` in small chunks; a hundred runs start no hundred other processes."""
    outputs = [folder / name for name in OUTPUTS]
    words = (root, "--bundle", bundle, "--output", outputs[0], "--evidence", outputs[1], *words)
    return run_here(*words, "--threads", "1", sizes=SMALL_CHUNKS)


def killed_run(work: Callable[[], object]) -> int | None:
    """Exit code of a process that does it, and kills itself."""
    process = multiprocessing.get_context(FORK).Process(target=work)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def expected(
    root: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """Of a run that nothing interrupts; its counts are those of the manifest."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(root, bundle, folder) == 3
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    manifest = json.loads((folder / "out.run.json").read_text())
    of_run = {name: manifest[name] for name in ("counts", "skipped", "series", "filled_from_prior")}
    found = {name: (folder / name).read_bytes() for name in OUTPUTS}
    return {**found, "manifest": json.dumps(of_run).encode()}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "out.csv").write_text("old")
    yield folder


def resumes(root: Path, bundle: Path, folder: Path, expected: dict[str, bytes]) -> None:
    """The old output or the whole new one stands; resumed, everything does, and nothing else."""
    assert (folder / "out.csv").read_bytes() in (b"old", expected["out.csv"])
    assert run(root, bundle, folder, "--resume") == 3
    assert contents(folder) == expected
    assert sorted(path.name for path in folder.iterdir()) == [*OUTPUTS, "out.run.json"]


def test_killed_at_every_change_of_a_file(
    root: Path,
    bundle: Path,
    tmp_path: Path,
    expected: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every write is torn in the middle, too."""
    code: int | None = KILLED
    count = chunks = 0
    while code == KILLED:
        folder = tmp_path / f"at-{count}"
        folder.mkdir()
        (folder / "out.csv").write_text("old")

        def work(count: int = count, folder: Path = folder) -> None:
            end_at_change(count, CHANGES)
            run(root, bundle, folder, "--quiet")

        code = killed_run(work)
        chunks += b'"chunk"' in journal(folder)
        resumes(root, bundle, folder, expected)
        shutil.rmtree(folder)
        count += 1
    assert code == 0
    assert count > 60 and chunks > 15
    with capsys.disabled():
        print(f"\nkilled at each of {count - 1} changes of a file, resumed to the same bytes")


def journal(folder: Path) -> bytes:
    path = folder / ".out.csv.journal"
    return path.read_bytes() if path.exists() else b""


@pytest.mark.slow
def test_killed_at_many_random_moments(
    root: Path,
    bundle: Path,
    tmp_path: Path,
    expected: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """So many kills that come before the end, between any two calls of the main thread."""
    (tmp_path / "counted").mkdir()
    calls = calls_of(lambda: run(root, bundle, tmp_path / "counted", "--quiet"))
    moments = random.Random(0)
    interrupted = point = 0
    while interrupted < RANDOM_KILLS:
        assert point < 2 * RANDOM_KILLS
        point += 1
        folder = tmp_path / f"random-{point}"
        folder.mkdir()
        (folder / "out.csv").write_text("old")

        def work(folder: Path = folder, moment: int = moments.randrange(calls)) -> None:
            kill_at_call(moment)
            run(root, bundle, folder, "--quiet")

        interrupted += killed_run(work) == -signal.SIGKILL
        resumes(root, bundle, folder, expected)
        shutil.rmtree(folder)
    with capsys.disabled():
        print(f"\nkilled at {RANDOM_KILLS} random moments, resumed to the same bytes")


def interrupt(root: Path, bundle: Path, folder: Path) -> None:
    """Leave a run that has one chunk in its journal."""

    def work() -> None:
        from rsna_lumbar.runtime.run.output_files import Results

        end_chunk = Results.end_chunk

        def ended(*arguments: object) -> None:
            end_chunk(*arguments)  # type: ignore[arg-type]
            os._exit(KILLED)

        Results.end_chunk = ended  # type: ignore[method-assign, assignment]
        run(root, bundle, folder, "--quiet")

    assert killed_run(work) == KILLED
    assert b'"chunk"' in journal(folder)


def kill_before_the_first_chunk(root: Path, bundle: Path, folder: Path) -> None:
    """Leave a run that has written rows, and has none in its journal."""

    def work() -> None:
        from rsna_lumbar.runtime.run.output_files import Results

        Results.end_chunk = lambda *_: os._exit(KILLED)  # type: ignore[method-assign]
        run(root, bundle, folder, "--quiet")

    assert killed_run(work) == KILLED
    assert b'"run"' in journal(folder) and b'"chunk"' not in journal(folder)


def lengthen(folder: Path, tail: bytes) -> None:
    """Add to every output that is aside."""
    asides = sorted(folder.glob(".*.part"))
    assert {f".{name}.part" for name in OUTPUTS} <= {path.name for path in asides}
    for path in asides:
        with path.open("ab") as stream:
            stream.write(tail)


TAILS = (b"104_left,0.", b"1\n" * 2**19)  # shorter and longer than all that is still to come


@pytest.mark.parametrize("tail", TAILS, ids=["short", "long"])
def test_what_was_written_after_the_last_chunk_is_cut_off(
    root: Path, bundle: Path, folder: Path, expected: dict[str, bytes], tail: bytes
) -> None:
    interrupt(root, bundle, folder)
    lengthen(folder, tail)
    resumes(root, bundle, folder, expected)


@pytest.mark.parametrize("words", [(), ("--resume",)])
@pytest.mark.parametrize("tail", TAILS, ids=["short", "long"])
def test_what_was_written_before_the_first_chunk_is_cut_off(
    root: Path,
    bundle: Path,
    folder: Path,
    expected: dict[str, bytes],
    tail: bytes,
    words: tuple[str, ...],
) -> None:
    kill_before_the_first_chunk(root, bundle, folder)
    lengthen(folder, tail)
    assert run(root, bundle, folder, *words) == 3
    assert contents(folder) == expected


def left_behind(folder: Path) -> dict[Path, bytes]:
    return {path: content for path in folder.iterdir() if (content := path.read_bytes())}


def test_without_resume_nothing_that_was_done_is_thrown_away(
    root: Path,
    bundle: Path,
    folder: Path,
    expected: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupt(root, bundle, folder)
    before = left_behind(folder)
    assert run(root, bundle, folder) == 2
    assert f"left 2 studies of {folder / 'out.csv'} done: go on with --resume" in (
        capsys.readouterr().err
    )
    assert left_behind(folder) == before
    resumes(root, bundle, folder, expected)


def test_resume_without_an_interrupted_run_is_a_run(
    root: Path, bundle: Path, folder: Path, expected: dict[str, bytes]
) -> None:
    assert run(root, bundle, folder, "--resume") == 3
    assert contents(folder) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("bundle", "--bundle changed"),
        ("options", "--slices changed since the run was interrupted, from all to relevant"),
        ("batch", "--batch-size changed since the run was interrupted, from None to 3"),
        ("study", "the list of studies changed"),
        ("time", "files of study 100 changed"),
        ("size", "files of study 101 changed"),
        ("gone", "files of study 100 changed"),
        ("rows", "is not what the interrupted run had left"),
    ],
)
def test_what_changed_is_said_and_nothing_is_lost(
    root: Path,
    bundle: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
    said: str,
) -> None:
    data = Path(shutil.copytree(root, tmp_path / "data"))
    models = Path(shutil.copytree(bundle, tmp_path / "models"))
    interrupt(data, models, folder)
    words: tuple[str, ...] = ()
    slice_path = data / "test_images" / "100" / "11" / "1.dcm"
    if change == "bundle":
        write_manifest(models, replace(read_bundle(models), calibration_aim="metric"))
    elif change == "options":
        words = ("--slices", "relevant")
    elif change == "batch":
        words = ("--batch-size", "3")
    elif change == "study":
        write_clinical_study(data / "test_images", "999", counts=(1, 1, 1))
    elif change == "time":
        os.utime(slice_path, (1, 1))
    elif change == "size":
        path = data / "test_images" / "101" / "22" / "1.dcm"
        times = path.stat()
        path.write_bytes(path.read_bytes() + b"\0")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "gone":
        slice_path.unlink()
    else:
        aside = folder / ".out.csv.part"
        aside.write_bytes(aside.read_bytes().replace(b"0.", b"1.", 1))
    before = left_behind(folder)
    assert run(data, models, folder, "--resume", *words) in (1, 2)
    assert said in capsys.readouterr().err
    assert left_behind(folder) == before


def finish_but_not_publish(root: Path, bundle: Path, folder: Path) -> None:
    """Leave a run that was killed when everything was written and nothing renamed."""

    def work() -> None:
        from rsna_lumbar.runtime.system.atomic_files import AsideFile

        AsideFile.publish = lambda _: os._exit(KILLED)  # type: ignore[method-assign]
        run(root, bundle, folder, "--quiet")

    assert killed_run(work) == KILLED
    assert b'"finished"' in journal(folder)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--slices", "relevant"), "--slices changed"),
        (("--batch-size", "1"), "--batch-size changed"),
        (("--ids", "hash"), "--ids changed"),
    ],
)
def test_a_finished_run_is_not_published_for_another(
    root: Path,
    bundle: Path,
    folder: Path,
    expected: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    finish_but_not_publish(root, bundle, folder)
    assert run(root, bundle, folder, "--resume", *words) == 2
    assert said in capsys.readouterr().err
    assert (folder / "out.csv").read_text() == "old"
    outputs = ("--bundle", bundle, "--output", folder / "out.csv")  # without --evidence
    assert run_here(root, *outputs, "--resume", "--threads", "1") == 2
    assert "what is written changed" in capsys.readouterr().err
    resumes(root, bundle, folder, expected)


def test_a_table_that_changed_is_noticed(
    root: Path, bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(root, tmp_path / "data"))
    table = data / "test_series_descriptions.csv"
    kinds = "study_id,series_id,series_description\n100,11,Sagittal T2/STIR\n104,22,Sagittal T1\n"
    table.write_text(kinds)
    interrupt(data, bundle, folder)
    table.write_text(kinds.replace("104,22,Sagittal T1", "104,22,Axial T2"))
    assert run(data, bundle, folder, "--resume") == 2
    assert "the table of series changed" in capsys.readouterr().err


def test_the_smaller_batch_is_kept_and_noted(
    root: Path, bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = OnnxSession.compute

    def limited(session: OnnxSession, slices: np.ndarray, member: np.ndarray) -> Outputs:
        if len(slices) > 1:
            raise run_failed("Failed to allocate memory")
        return compute(session, slices, member)

    with monkeypatch.context() as patch:
        patch.setattr(OnnxSession, "compute", limited)
        interrupt(root, bundle, folder)
    assert run(root, bundle, folder, "--resume") == 3
    manifest = json.loads((folder / "out.run.json").read_text())
    assert manifest["options"]["batch_size"] == 1
    assert "out of memory with batches of 2: 1 from there on" in manifest["why"]
    assert manifest["resumed_after_studies"] == 2
    assert manifest["started"] <= manifest["resumed"] <= manifest["finished"]


def test_a_device_that_is_lost_ends_a_run_that_can_be_resumed(
    root: Path,
    bundle: Path,
    folder: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compute, left = OnnxSession.compute, [8]

    def lost(session: OnnxSession, slices: np.ndarray, member: np.ndarray) -> Outputs:
        left[0] -= 1
        if left[0] < 0:
            raise run_failed("CUDA error: the device was lost")
        return compute(session, slices, member)

    with monkeypatch.context() as patch:
        patch.setattr(OnnxSession, "compute", lost)
        assert run(root, bundle, folder, "--batch-size", "1") == 1
    said = capsys.readouterr().err
    assert "2 studies are done and kept for --resume" in said
    assert "device was lost" in said.splitlines()[-1]
    assert run(root, bundle, folder, "--resume", "--batch-size", "1") == 3
    assert contents(folder)["manifest"] == expected["manifest"]


def test_a_resumed_run_that_is_killed_again_keeps_its_pseudonyms(
    root: Path, bundle: Path, tmp_path: Path
) -> None:
    """With --ids hash, killed twice each time, the second time while it goes on."""
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(root, bundle, whole, "--ids", "hash") == 3
    expected, key = contents(whole), (whole / "out.ids.csv").read_bytes()

    def names(folder: Path) -> set[str]:
        """But for that of the evidence file, which stands in another folder."""
        lines = (folder / "out.ids.csv").read_text().splitlines()
        return {line for line in lines if not line.endswith("out.jsonl")}

    def killed_at(change: int, folder: Path, *words: object) -> int | None:
        def work() -> None:
            end_at_change(change, CHANGES)
            run(root, bundle, folder, "--quiet", "--ids", "hash", *words)

        return killed_run(work)

    count, code = 0, KILLED
    while code == KILLED:
        folder = tmp_path / f"at-{count}"
        folder.mkdir()
        (folder / "out.ids.csv").write_bytes(key)
        code = killed_at(count, folder) or 0
        killed_at(count // 2, folder, "--resume")
        assert run(root, bundle, folder, "--ids", "hash", "--resume") == 3
        assert contents(folder) == expected
        assert names(folder) == names(whole)
        assert len(list(folder.iterdir())) == 4
        count += 5
    assert count > 60


def test_an_output_among_the_slices_is_none_of_them(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    """Interrupted and resumed, too: what a run writes says nothing of its input."""
    data = tmp_path / "data"
    for number in range(STUDIES):
        write_clinical_study(data / "test_images", str(100 + number), seed=number, counts=(2, 1, 1))
    assert run(data, bundle, folder) == 0
    expected = contents(folder)
    series = data / "test_images" / "100" / "11"
    interrupt(data, bundle, series)
    assert run(data, bundle, series, "--resume") == 0
    assert contents(series) == expected
    assert run(data, bundle, series) == 0
    assert contents(series) == expected


@pytest.mark.parametrize("change", ["kind", "key", "list"])
def test_a_journal_of_another_make_is_refused(
    root: Path,
    bundle: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
) -> None:
    """Its digests fit, its entries do not."""
    path = folder / ".out.csv.journal"
    entry: dict[str, object] = {"kind": "run", "identity": {}, "started": "today"}
    if change == "key":
        del entry["identity"]
    with Journal(path) as journal:
        journal.add(entry)
        journal.add({"kind": ["chunk"] if change == "list" else "chunks"})
    assert run(root, bundle, folder, "--resume") == 1
    assert "is no journal of this version; remove it to start again" in capsys.readouterr().err
    assert path.exists() and (folder / "out.csv").read_text() == "old"


def test_strict_stops_at_a_fault_and_goes_on_when_it_is_mended(
    root: Path,
    bundle: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    for number in range(STUDIES):
        write_clinical_study(data / "test_images", str(100 + number), seed=number, counts=(2, 1, 1))
    good = (data / "test_images" / "103" / "11" / "2.dcm").read_bytes()
    (data / "test_images" / "103" / "11" / "2.dcm").write_bytes(good[:1000])
    assert run(data, bundle, folder, "--strict") == 1
    said = capsys.readouterr().err
    assert "skipped: test_images/103/11/2.dcm: " in said
    assert "2 studies are done and kept for --resume" in said
    assert "something cannot be scored, or is doubtful" in said.splitlines()[-1]
    assert (folder / "out.csv").read_text() == "old"
    (data / "test_images" / "103" / "11" / "2.dcm").write_bytes(good)
    assert run(data, bundle, folder, "--strict", "--resume") == 0
    mended = contents(folder)
    assert run(data, bundle, folder, "--strict") == 0
    assert contents(folder) == mended


def test_what_a_run_writes_is_none_of_its_inputs(bundle: Path, tmp_path: Path) -> None:
    """An output inside a tree, whose files are all looked at."""
    for number in range(2):
        write_clinical_study(tmp_path, str(100 + number), seed=number, counts=(2, 1, 1))
    manifests = []
    for _ in range(2):
        assert run(tmp_path, bundle, tmp_path) == 0
        manifests.append(json.loads((tmp_path / "out.run.json").read_text()))
    assert [manifest["skipped"] for manifest in manifests] == [[], []]


def test_two_runs_do_not_share_an_output(
    root: Path, bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rsna_lumbar.runtime.system.atomic_files import AsideFile

    other = AsideFile(folder / "out.csv")
    try:
        assert run(root, bundle, folder, "--resume") == 1
        assert "another process is writing it" in capsys.readouterr().err
    finally:
        other.discard()


@pytest.mark.parametrize("writes", range(0, 30, 3))
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_full_or_failing_disk_keeps_what_was_done(
    root: Path,
    bundle: Path,
    folder: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    writes: int,
    error: int,
) -> None:
    write, left = os.write, [writes]

    def fail_at_last(descriptor: int, content: bytes) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(error, os.strerror(error))
        return write(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail_at_last)
        capsys.readouterr()
        code = run(root, bundle, folder)
    said = capsys.readouterr().err.splitlines()
    if code != 3:  # else it needed fewer writes
        assert code == 1
        assert said[-1].startswith(f"Error: {folder}") and os.strerror(error) in said[-1]
        assert (folder / "out.csv").read_text() == "old"
        resumes(root, bundle, folder, expected)


def test_a_folder_that_cannot_be_written_to(
    root: Path, bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not os.geteuid():
        pytest.skip("root may write anywhere; permissions were not tried")
    folder.chmod(0o500)
    try:
        assert run(root, bundle, folder) == 1
        assert "Permission denied" in capsys.readouterr().err
    finally:
        folder.chmod(0o700)
    assert [path.name for path in folder.iterdir()] == ["out.csv"]
