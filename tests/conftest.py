"""Where the real files lie, and what every test is kept from: the user's own folders."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from rsna_lumbar.runtime.system.cores import usable_cores

# How long an example takes says nothing on a busy machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
# Tests run side by side, and their networks are small: a thread each, in child processes, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
MOST_WORKERS = 4  # each with PyTorch in memory
SHARED = Path(__file__).parents[2] / "shared"
REAL_MR = SHARED / "data" / "real_mr"
RSNA_LIKE = SHARED / "data" / "rsna_like"
FIELD_CASES = SHARED / "tools" / "field_cases.py"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes run the tests; a file stays in one of them, with what it made.

    With ``-s``, or for single files, there is only this process.
    """
    few = all(Path(one.partition("::")[0]).is_file() for one in config.args)
    if few or config.option.capture == "no":
        return 0
    config.option.dist = "loadfile"
    config.option.loadscopereorder = False  # else long files with few tests come last
    return min(usable_cores(), MOST_WORKERS)


def pytest_configure(config: pytest.Config) -> None:
    """Each process of xdist keeps to its share of the cores: more threads only spin and wait."""
    worker = getattr(config, "workerinput", None)
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        index = int(worker["workerid"].removeprefix("gw"))
        os.sched_setaffinity(0, cores[index :: worker["workercount"]] or cores)


@pytest.fixture(scope="session")
def real_mr() -> Path:
    """Folder of published MR files, beside the checkout where it is there at all.

    Tests that need them say that they skipped where they are not.
    """
    if not REAL_MR.is_dir():
        pytest.skip("the folder of real MR files is not there; their checks did not run")
    return REAL_MR


@pytest.fixture(scope="session")
def rsna_like() -> Path:
    """Root of 45 files with the challenge's exact headers, where it is there at all."""
    if not RSNA_LIKE.is_dir():
        pytest.skip("the files in the challenge's form are not there; their checks did not run")
    return RSNA_LIKE


@pytest.fixture(scope="session")
def field_cases() -> Path:
    """The script that writes studies as archives store them, where it is there at all."""
    if not FIELD_CASES.is_file():
        pytest.skip("the studies as archives store them are not there; their checks did not run")
    return FIELD_CASES


@pytest.fixture(scope="session", autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Trusted engines and caches of the tests go to a folder of theirs, also in child processes."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def interrupts_arrive() -> Iterator[None]:
    """Shells start what runs in the background with SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
