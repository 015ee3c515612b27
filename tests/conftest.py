"""Where the real files lie. Tests that need them say that they skipped where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_MR = Path(__file__).parents[2] / "shared" / "data" / "real_mr"


@pytest.fixture(scope="session")
def real_mr() -> Path:
    """Folder of published MR files, beside the checkout where it is there at all."""
    if not REAL_MR.is_dir():
        pytest.skip("the folder of real MR files is not there; their checks did not run")
    return REAL_MR
