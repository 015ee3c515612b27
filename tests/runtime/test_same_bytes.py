"""Same bundle, options and input: same bytes, whatever the workers or the order of files."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from toys import toy_model, write_clinical_study, write_toy_bundle

from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.bundle.manifest import write_manifest
from rsna_lumbar.runtime.bundle.records import Detector, ModelFile
from rsna_lumbar.runtime.inference.scores import StudyScore
from rsna_lumbar.runtime.run.submission import evidence_lines, submission_lines, submission_rows
from rsna_lumbar.runtime.studies.finder import find_studies, stream_studies

BACKENDS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine studies, some larger and some smaller than a batch, one without an axial slice."""
    root = tmp_path_factory.mktemp("same") / "root"
    for number in range(9):
        counts = (1 + number, 17, 5 * (number % 3))
        write_clinical_study(root / "test_images", str(100 + number), seed=number, counts=counts)
    return root


@pytest.fixture(scope="module", params=BACKENDS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "bundle"
    made = write_toy_bundle(folder)
    if request.param == "openvino":
        if find_spec("openvino") is None:
            pytest.skip("OpenVINO is not installed")
        detectors = tuple(in_openvino(folder, one) for one in made.detectors)
        write_manifest(folder, replace(made, detectors=detectors))
    return folder


def in_openvino(folder: Path, detector: Detector) -> Detector:
    from rsna_lumbar.runtime.backends.openvino_library import load_openvino, openvino_core

    openvino = load_openvino()
    graph = openvino_core().read_model(toy_model(detector.group), b"")
    paths = [folder / f"{detector.group.name}.{suffix}" for suffix in ("xml", "bin")]
    openvino.serialize(graph, *map(str, paths))
    files = tuple(
        ModelFile(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths
    )
    (model,) = detector.models
    return replace(detector, models=(replace(model, backend="openvino", files=files),))


def score(bundle: Path, root: Path, *, workers: int = 0, batch_size: int = 16) -> list[StudyScore]:
    with Scorer(bundle, device="cpu", batch_size=batch_size) as scorer:
        return list(scorer.score(stream_studies(root), workers=workers))


def as_text(scores: Sequence[StudyScore], root: Path) -> str:
    return "".join(submission_lines(one) + evidence_lines(one, root) for one in scores)


@pytest.fixture(scope="module")
def alone(bundle: Path, root: Path) -> list[StudyScore]:
    """Decoded in this process, batches of 16."""
    return score(bundle, root)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_workers_change_no_byte(
    bundle: Path, root: Path, alone: list[StudyScore], workers: int
) -> None:
    assert as_text(score(bundle, root, workers=workers), root) == as_text(alone, root)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_files_changes_no_byte(
    bundle: Path, root: Path, alone: list[StudyScore], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Folders are listed in any order that a file system may have."""
    shuffled, scandir = random.Random(seed), os.scandir

    def listed(folder: Path) -> list[os.DirEntry[str]]:
        entries = list(scandir(folder))
        return shuffled.sample(entries, len(entries))

    monkeypatch.setattr(os, "scandir", listed)
    assert as_text(score(bundle, root, workers=2), root) == as_text(alone, root)


def test_all_found_first_changes_no_byte(bundle: Path, root: Path, alone: list[StudyScore]) -> None:
    with Scorer(bundle, device="cpu", batch_size=16) as scorer:
        eager = list(scorer.score(find_studies(root)))
    assert as_text(eager, root) == as_text(alone, root)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_sizes_agree_but_for_rounding(
    bundle: Path, root: Path, alone: list[StudyScore], batch_size: int
) -> None:
    expected = [row for one in alone for row in submission_rows(one)]
    found = [
        row for one in score(bundle, root, batch_size=batch_size) for row in submission_rows(one)
    ]
    assert [row[0] for row in found] == [row[0] for row in expected]
    values, reference = ([row[1:] for row in rows] for rows in (found, expected))
    np.testing.assert_allclose(values, reference, rtol=0, atol=1e-6)
