"""Where the real files lie, and what every test is kept from: the user's own folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says nothing on a busy machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
REAL_MR = Path(__file__).parents[2] / "shared" / "data" / "real_mr"


@pytest.fixture(scope="session")
def real_mr() -> Path:
    """Folder of published MR files, beside the checkout where it is there at all.

    Tests that need them say that they skipped where they are not.
    """
    if not REAL_MR.is_dir():
        pytest.skip("the folder of real MR files is not there; their checks did not run")
    return REAL_MR


@pytest.fixture(scope="session", autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Trusted engines and caches of the tests go to a folder of theirs, also in child processes."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder
