"""Workers that crash, hang or never start: each file has its answer, and nothing is left behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import bad_decoders
import numpy as np
import psutil
import pytest
from ending import DEADLINE_S, is_gone, wait_for
from toys import slice_pixels, write_clinical_slice

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.decode import worker_pool
from rsna_lumbar.runtime.decode.decoder import Decoded, DecodeHere
from rsna_lumbar.runtime.decode.factory import default_workers, open_decoder
from rsna_lumbar.runtime.decode.slice_sets import SetRequest, SliceSet, decode_sets
from rsna_lumbar.runtime.decode.worker import PLACES
from rsna_lumbar.runtime.decode.worker_pool import AT_A_TIME, IN_HAND, DecodingPool
from rsna_lumbar.runtime.dicom.slices import Slice

SIZE_PX = 32
POOL = Path(bad_decoders.__file__).with_name("fragile_pool.py")


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "work", bad_decoders.work)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.dcm" for number in range(12)]
    for number, path in enumerate(paths):
        write_clinical_slice(path, slice_pixels(number), InstanceNumber=number)
    return paths


def pool(workers: int, timeout_s: float = 60.0) -> DecodingPool:
    return DecodingPool(workers, Preprocessing(), largest_px=SIZE_PX, timeout_s=timeout_s)


def decode_all(decoder: DecodingPool | DecodeHere, files: list[Path]) -> list[Decoded]:
    waits = [decoder.submit(path, SIZE_PX) for path in files]
    return [wait() for wait in waits]


def decoding_processes() -> list[psutil.Process]:
    """Of this process, at the moment."""
    children = psutil.Process().children()
    return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


def as_values(answers: list[Decoded]) -> list[object]:
    return [
        str(one.reason) if isinstance(one, SkipFile) else [(s.file, s.image.tolist()) for s in one]
        for one in answers
    ]


@pytest.mark.parametrize("workers", [1, 3])
def test_answers_are_those_of_this_process(files: list[Path], workers: int) -> None:
    files[3].write_text("no DICOM")
    expected = as_values(decode_all(DecodeHere(Preprocessing()), files))
    with pool(workers) as decoder:
        assert as_values(decode_all(decoder, files)) == expected


def test_answers_may_be_asked_for_in_any_order(files: list[Path]) -> None:
    with pool(2) as decoder:
        waits = [decoder.submit(path, SIZE_PX) for path in files]
        answers = [wait() for wait in reversed(waits)][::-1]
    assert as_values(answers) == as_values(decode_all(DecodeHere(Preprocessing()), files))


def test_more_files_than_are_ever_in_hand(files: list[Path]) -> None:
    many = files * (IN_HAND // 4)
    with pool(1) as decoder:
        waits = [decoder.submit(path, SIZE_PX) for path in many]
        assert len(many) > IN_HAND == decoder.ahead
        assert [len(one) for wait in waits if isinstance(one := wait(), list)] == [1] * len(many)


def test_a_file_with_more_frames_than_places(tmp_path: Path) -> None:
    frames = np.stack([slice_pixels(seed) for seed in range(2 * PLACES + 3)])
    write_clinical_slice(tmp_path / "a.dcm", frames, NumberOfFrames=len(frames))
    files = [tmp_path / "a.dcm"] * 2
    with pool(1) as decoder:
        answers = decode_all(decoder, files)
    assert as_values(answers) == as_values(decode_all(DecodeHere(Preprocessing()), files))


def test_squares_of_different_sides(files: list[Path]) -> None:
    with pool(1) as decoder:
        small, large = decoder.submit(files[0], 16), decoder.submit(files[0], SIZE_PX)
        (one,), (two,) = small(), large()
    assert isinstance(one, Slice)
    assert (one.image.shape, two.image.shape) == ((16, 16), (SIZE_PX, SIZE_PX))


@pytest.mark.usefixtures("fragile")
@pytest.mark.parametrize(
    ("name", "detail"), [("crash", "crashed on it (signal 11)"), ("leave", "crashed on it")]
)
def test_a_crash_costs_one_file(files: list[Path], name: str, detail: str) -> None:
    expected = as_values(decode_all(DecodeHere(Preprocessing()), files))
    for index in (0, 5, 6):
        files[index] = files[index].rename(files[index].with_name(f"{name}{index}.dcm"))
        expected[index] = "decoder_failed"
    with pool(2) as decoder:
        answers = decode_all(decoder, files)
        assert as_values(answers) == expected
        fault = answers[5]
        assert isinstance(fault, SkipFile)
        assert fault.reason is Reason.DECODER_FAILED
        assert fault.detail.endswith(detail)


@pytest.mark.usefixtures("fragile")
def test_a_hang_costs_one_file(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The others may take long, on a busy machine: the clock stands still for them.

    It goes while one hangs, as soon as the other has no file left.
    """
    files[2] = files[2].rename(files[2].with_name("hang.dcm"))
    sign, told, stood = bad_decoders.sign_of(files[2]), tmp_path / "told", [0.0]

    def monotonic() -> float:
        if sign.exists() and not is_gone(int(sign.read_text())):
            wait_for(lambda: told.exists() and told.stat().st_size >= len(files) - AT_A_TIME)
            stood[0] = time.monotonic()
        return stood[0]

    monkeypatch.setenv("TOLD", str(told))
    monkeypatch.setattr(worker_pool, "work", bad_decoders.tell)
    monkeypatch.setattr(worker_pool, "time", SimpleNamespace(monotonic=monotonic, sleep=time.sleep))
    with pool(2, timeout_s=1.0) as decoder:
        answers = decode_all(decoder, files)
    faults = [one.detail for one in answers if isinstance(one, SkipFile)]
    assert faults == ["no answer in 1 s"]
    assert isinstance(answers[2], SkipFile)


@pytest.mark.usefixtures("fragile")
@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux; no memory was limited")
def test_a_file_that_wants_too_much_memory_costs_itself(files: list[Path]) -> None:
    expected = as_values(decode_all(DecodeHere(Preprocessing()), files))
    files[1] = files[1].rename(files[1].with_name("greedy.dcm"))
    expected[1] = "too_large"
    with pool(1) as decoder:
        before = decoding_processes()
        assert as_values(decode_all(decoder, files)) == expected
        assert len(before) == 1 and decoding_processes() == before  # the same one went on


def test_a_pause_of_the_caller_is_no_hang(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times as long as a file may take, by the clock."""
    with pool(1, timeout_s=DEADLINE_S) as decoder:
        waits = [decoder.submit(path, SIZE_PX) for path in files]
        waits[0]()
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 10 * DEADLINE_S)
        monkeypatch.setattr(worker_pool, "time", later)
        assert all(isinstance(wait(), list) for wait in waits)


def test_a_worker_that_was_killed_with_nothing_to_do(files: list[Path]) -> None:
    with pool(1) as decoder:
        (only,) = decoding_processes()
        assert isinstance(decoder.submit(files[0], SIZE_PX)(), list)
        only.kill()
        wait_for(lambda: is_gone(only.pid))
        assert isinstance(decoder.submit(files[1], SIZE_PX)(), list)


def test_what_a_worker_said_before_it_ended_counts(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed with its answers unread: they are taken, and no file is blamed."""
    told = tmp_path / "told"
    monkeypatch.setenv("TOLD", str(told))
    monkeypatch.setattr(worker_pool, "work", bad_decoders.tell)
    with pool(1) as decoder:
        (only,) = decoding_processes()
        assert isinstance(decoder.submit(files[-1], SIZE_PX)(), list)  # so it has started
        waits = [decoder.submit(path, SIZE_PX) for path in files[:AT_A_TIME]]
        wait_for(lambda: told.stat().st_size == 1 + AT_A_TIME)
        only.kill()
        wait_for(lambda: is_gone(only.pid))
        assert all(isinstance(wait(), list) for wait in waits)
    assert told.stat().st_size == 1 + AT_A_TIME  # and no other decoded them again


def test_odd_numbers_are_the_same_fault_everywhere(tmp_path: Path) -> None:
    """Values that no number can be made of, and an error that nobody thought of."""
    for value in ("1e400", "inf", "nan", "-", "1e", "9" * 40):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.dcm"
        write_clinical_slice(path, slice_pixels(1), InstanceNumber="7777")
        content = path.read_bytes()
        path.write_bytes(
            content.replace(b"IS\x04\x007777", b"IS\x04\x00" + value[:4].ljust(4).encode())
        )
    files = sorted(tmp_path.iterdir())
    with pool(1) as decoder:
        assert as_values(decode_all(decoder, files)) == as_values(
            decode_all(DecodeHere(Preprocessing()), files)
        )


def test_an_abandoned_score_leaves_no_worker(files: list[Path]) -> None:
    request = SetRequest("1", SPINAL, SIZE_PX, (tuple(files),))

    def sets() -> Iterator[SliceSet]:
        with open_decoder(1, Preprocessing(), largest_px=SIZE_PX) as decoder:
            yield from decode_sets([request] * 5, decoder, data=files[0].parent)

    generator = sets()
    next(generator)
    (worker,) = decoding_processes()
    del generator
    assert not worker.is_running()


def test_workers_that_cannot_start(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "work", bad_decoders.never_start)
    with pool(1) as decoder, pytest.raises(DataError, match="workers=0"):
        decoder.submit(files[0], SIZE_PX)()


def test_a_worker_that_starts_at_the_third_time(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed while it was starting, say: nothing is lost by it."""
    (tmp_path / "starts").write_text("")
    monkeypatch.setenv("STARTS", str(tmp_path / "starts"))
    monkeypatch.setattr(worker_pool, "work", bad_decoders.start_late)
    with pool(1) as decoder:
        waits = [decoder.submit(path, SIZE_PX) for path in files]
        assert all(isinstance(wait(), list) for wait in waits)


@pytest.mark.parametrize("refusals", [2, 99])
def test_no_process_to_be_had_just_now(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """It is tried again a few times, each a little later."""
    spawned = multiprocessing.get_context("spawn").Process
    left, start = [refusals], spawned.start

    def refuse(process: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        start(process)  # type: ignore[arg-type]

    monkeypatch.setattr(spawned, "start", refuse)
    monkeypatch.setattr(worker_pool, "START_PAUSES_S", (0.0, 0.01, 0.01))
    if refusals == 99:
        with pytest.raises(DataError, match="could not start"):
            pool(1)
        return
    with pool(1) as decoder:
        assert isinstance(decoder.submit(files[0], SIZE_PX)(), list)


def test_nothing_is_left_behind(files: list[Path]) -> None:
    """No process, and no memory with a name, also while the pool is open."""
    ours = f"pym-{os.getpid()}-*"  # as the standard library names them
    with pool(2) as decoder:
        assert list(Path("/dev/shm").glob(ours)) == []
        processes = decoding_processes()
        assert len(processes) == 2
        assert isinstance(decoder.submit(files[0], SIZE_PX)(), list)
        for path in files:
            decoder.submit(path, SIZE_PX)
    assert not any(one.is_running() for one in processes)


@pytest.mark.skipif(os.name != "posix", reason="kills of POSIX")
@pytest.mark.parametrize("how", ["hang", "hold"])
def test_a_worker_that_hangs_ends_with_its_parent(tmp_path: Path, how: str) -> None:
    """Killed, the parent tells it nothing, and it does not look at its pipe."""
    if how == "hold" and sys.platform != "linux":
        pytest.skip("only Linux ends a process whose interpreter is held")
    file = tmp_path / f"{how}.dcm"
    with subprocess.Popen([sys.executable, POOL, file]) as parent:
        wait_for(bad_decoders.sign_of(file).exists)
        worker = int(bad_decoders.sign_of(file).read_text())
        assert not is_gone(worker)
        parent.kill()
        assert parent.wait() == -signal.SIGKILL
    wait_for(lambda: is_gone(worker))


def test_small_jobs_have_no_pool(files: list[Path]) -> None:
    assert [default_workers(count, cores=8) for count in (0, 74, 299, 300)] == [1, 1, 1, 4]
    assert [default_workers(count, on_gpu=True, cores=8) for count in (299, 300)] == [1, 8]
    with open_decoder(0, Preprocessing(), largest_px=SIZE_PX) as decoder:
        assert isinstance(decoder.submit(files[0], SIZE_PX)(), list)
