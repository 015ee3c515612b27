"""Work in several processes: every report arrives, an error too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from counting import count

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.train.side_by_side import run_side_by_side


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
        "from rsna_lumbar.train.side_by_side import run_side_by_side\n"
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
    assert all(is_alive(worker) for worker in workers)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
