"""Fixtures of the runtime's tests: a toy bundle and a toy root."""

from __future__ import annotations

from pathlib import Path

import pytest
from toys import write_clinical_study, write_toy_bundle


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one toy detector a group."""
    folder = tmp_path_factory.mktemp("toy") / "bundle"
    write_toy_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in the challenge's layout: three studies with clinical headers, and no tables."""
    root = tmp_path_factory.mktemp("data")
    for seed, study_id in enumerate(("12", "7", "100")):
        write_clinical_study(root / "test_images", study_id, seed=seed)
    return root
