"""What several benchmarks find made."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bench_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WORK of the benchmarks of fresh processes: each leaves studies and a bundle to the next."""
    return tmp_path_factory.mktemp("work")
