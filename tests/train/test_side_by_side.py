"""Work in several processes: every report arrives, an error too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from counting import count
from ending import is_gone, wait_for

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.train.fitting.parallel import run_side_by_side


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("items", [[], ["a"], ["aa", "bbbb", "c"]])
def test_every_report_arrives_in_the_order_of_its_item(items: list[str], jobs: int) -> None:
    seen: list[tuple[str, int]] = []
    run_side_by_side(count, items, jobs, lambda name, step: seen.append((name, step)))
    for item in items:
        assert [step for name, step in seen if name == item] == list(range(1, len(item) + 1))
    assert len(seen) == sum(map(len, items))


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_is_raised_here(jobs: int) -> None:
    with pytest.raises(DataError, match="bad item"):
        run_side_by_side(count, ["aa", "bad"], jobs, lambda name, step: None)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "from counting import wait_long\n"
        "from rsna_lumbar.train.fitting.parallel import run_side_by_side\n"
        "if __name__ == '__main__':\n"
        "    run_side_by_side(wait_long, ['a', 'b'], 2, lambda n, c: print(c, flush=True))\n"
    )
    (tmp_path / "program.py").write_text(program)
    support = Path(__file__).parents[1] / "support"
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(support)},
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
