"""Work in several processes: all of it is done, an error arrives, progress is reported."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from counting import touch
from ending import is_gone, wait_for

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.train.fitting.parallel import run_side_by_side, watched


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "c"]])
def test_the_work_is_done_on_every_item(tmp_path: Path, names: list[str], jobs: int) -> None:
    run_side_by_side(touch, [tmp_path / name for name in names], jobs)
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_is_raised_here(tmp_path: Path, jobs: int) -> None:
    with pytest.raises(DataError, match="bad item"):
        run_side_by_side(touch, [tmp_path / "a", tmp_path / "bad"], jobs)
    assert (tmp_path / "a").exists()


def test_rows_of_tables_are_reported_in_rising_order(tmp_path: Path) -> None:
    """Of the first table two rows before it moves, of the second one row, of the third none."""
    places = {name: (tmp_path / f"{name}.csv", tmp_path / f"{name}_moved.csv") for name in "abc"}
    seen: list[tuple[str, int]] = []
    arrived = threading.Event()

    def report(name: str, rows: int) -> None:
        seen.append((name, rows))
        arrived.set()

    with watched(places, report):
        places["a"][0].write_text("epoch\n1\n2\n")
        assert arrived.wait(60)
        places["a"][0].unlink()
        places["a"][1].write_text("epoch\n1\n2\n3\n")
        places["b"][0].write_text("epoch\n1\n")
        places["c"][0].write_text("epoch\n")
    assert [rows for name, rows in seen if name == "a"] == [2, 3]
    assert [rows for name, rows in seen if name == "b"] == [1]
    assert len(seen) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "from counting import wait_long\n"
        "from rsna_lumbar.train.fitting.parallel import run_side_by_side\n"
        "if __name__ == '__main__':\n"
        "    run_side_by_side(wait_long, ['a', 'b'], 2)\n"
    )
    (tmp_path / "program.py").write_text(program)
    support = Path(__file__).parents[1] / "support"
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(support), *sys.path))},
    )
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    assert not any(map(is_gone, workers))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: all(map(is_gone, workers)))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_processes_of_a_library_end_with_the_one_that_started_them() -> None:
    """As with several GPUs: starter -> launcher -> worker; the starter is killed."""
    worker = (
        "import os, time; from rsna_lumbar.train.fitting.parallel import end_with_starter;"
        "end_with_starter(); print(os.getpid(), flush=True); time.sleep(1000)"
    )
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    starter = (
        "import subprocess, sys; from rsna_lumbar.train.fitting.parallel import mark_as_starter;"
        f"mark_as_starter(); subprocess.run([sys.executable, '-c', {launcher!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    number = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: is_gone(number))
