"""Checkpoints with random weights whose outputs vary, and their graphs, made once a session."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.export.checkpoints.reference import reference_peaks
from rsna_lumbar.export.checkpoints.synthetic import (
    random_detector,
    save_checkpoint,
    textured_slices,
)
from rsna_lumbar.export.graph.rewrite import rewrite
from rsna_lumbar.export.graph.score_graph import export_score_graph
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.core.preprocess import Preprocessing

SIZE_PX = 64
LEAST_LOGIT_SPREAD = 0.3  # standard deviation over slices, median class; over classes several

MakeCheckpoint = Callable[[Group, str, int], Checkpoint]
MakeGraph = Callable[[Group, str, int], bytes]
VERSIONS = {"test": "1"}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small run faster on one thread, above all where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """(group, scale, channels) -> a checkpoint with its classes in a shuffled order."""
    made: dict[tuple[str, str, int], Checkpoint] = {}
    folder = tmp_path_factory.mktemp("weights")

    def make(group: Group, scale: str, channels: int) -> Checkpoint:
        key = (group.name, scale, channels)
        if key not in made:
            names = list(group.classes)
            random.Random(5).shuffle(names)
            path = folder / f"{group.name}-{scale}-{channels}.pt"
            model = random_detector(
                group, scale=scale, channels=channels, names=names, size_px=SIZE_PX
            )
            save_checkpoint(model, path, size_px=SIZE_PX)
            made[key] = read_checkpoint(path, group)
            _assert_outputs_vary(made[key])
        return made[key]

    return make


@pytest.fixture(scope="session")
def make_graph(make_checkpoint: MakeCheckpoint) -> MakeGraph:
    """(group, scale, channels) -> the float32 score graph of that checkpoint."""

    @cache
    def make(group: Group, scale: str, channels: int) -> bytes:
        network = rewrite(make_checkpoint(group, scale, channels))
        return export_score_graph(
            network, group, SIZE_PX, preprocessing=Preprocessing(), versions=VERSIONS
        )

    return make


def _assert_outputs_vary(checkpoint: Checkpoint) -> None:
    peaks = reference_peaks(checkpoint, textured_slices(16, SIZE_PX, seed=9)).astype(np.float64)
    logits = np.log(peaks / (1 - peaks))
    assert np.median(logits.std(axis=0)) > LEAST_LOGIT_SPREAD
    assert np.ptp(logits) > 5


@pytest.fixture
def weights(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> dict[str, tuple[Path, ...]]:
    """One small checkpoint for each group, copied to a folder of the test's own."""
    copies = {}
    for group in GROUPS:
        copy = tmp_path / f"{group.name}.pt"
        copy.write_bytes(make_checkpoint(group, "n", 1).path.read_bytes())
        copies[group.name] = (copy,)
    return copies
