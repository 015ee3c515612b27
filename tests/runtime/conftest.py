"""Fixtures of the runtime's tests: a toy bundle and a toy root."""

from __future__ import annotations

from pathlib import Path

import pytest
from toys import write_clinical_study, write_toy_bundle

from rsna_lumbar.runtime.run import run as run_module


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one toy detector a group."""
    folder = tmp_path_factory.mktemp("toy") / "bundle"
    write_toy_bundle(folder)
    return folder


@pytest.fixture
def decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``--workers`` a run starts no process, which takes it longer than all the rest."""
    monkeypatch.setattr(run_module, "SMALL_JOB", 0)


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in the challenge's layout: three studies with clinical headers, and no tables."""
    root = tmp_path_factory.mktemp("data")
    for seed, study_id in enumerate(("12", "7", "100")):
        write_clinical_study(root / "test_images", study_id, seed=seed)
    return root
