"""A long run of small studies: memory flat, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ending import wait_for
from toys import write_clinical_study

from rsna_lumbar.benchmarks.harness.process_tree import tree_bytes

RUN = (sys.executable, "-c", "from rsna_lumbar.runtime.cli import main; main()")
STUDIES = 2000
MEGABYTE = 1e6
SLACK_MB = 20.0  # what an allocator keeps or gives back
SHARED_MEMORY = Path("/dev/shm")


def write_studies(root: Path, count: int) -> None:
    """So many studies, hard links to the files of four."""
    write_clinical_study(root / "test_images", "1000", counts=(2, 2, 3))
    first = root / "test_images" / "1000"
    for number in range(1001, 1000 + count):
        for path in first.rglob("*.dcm"):
            target = root / "test_images" / str(number) / path.relative_to(first)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)


def shared() -> set[str]:
    return set(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else set()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sessions and hard links of POSIX")
def test_two_thousand_studies(
    toy_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_studies(tmp_path / "root", STUDIES)
    before = shared()
    output = tmp_path / "out.csv"
    command = [*RUN, str(tmp_path / "root"), "--bundle", str(toy_bundle), "--output", str(output)]
    samples: list[tuple[float, int]] = []  # megabytes of the tree, descriptors of the process
    with subprocess.Popen([*command, "--workers", "2"], start_new_session=True) as process:
        while process.poll() is None:
            try:
                files = psutil.Process(process.pid).num_fds()
            except psutil.Error:
                break
            samples.append((tree_bytes(process.pid) / MEGABYTE, files))
            time.sleep(0.1)
    assert process.returncode == 0
    session = process.pid
    wait_for(lambda: not any(lives_in(session, one) for one in psutil.process_iter()))
    assert shared() <= before
    assert len(output.read_text().splitlines()) == 1 + 25 * STUDIES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.run.json", "root"]
    quarter = len(samples) // 4
    assert quarter > 5
    early, late = samples[quarter : 2 * quarter], samples[3 * quarter : -2]
    with capsys.disabled():
        print(
            f"\n{STUDIES} studies: {max(mb for mb, _ in early):.0f} MB in the second quarter, "
            f"{max(mb for mb, _ in late):.0f} MB in the last; "
            f"{max(n for _, n in early)} and {max(n for _, n in late)} descriptors"
        )
    assert max(mb for mb, _ in late) <= max(mb for mb, _ in early) + SLACK_MB
    assert max(n for _, n in late) <= max(n for _, n in early) + 1


def lives_in(session: int, process: psutil.Process) -> bool:
    """One that has ended, and that nobody has asked for yet, does not."""
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False
