"""A bundle is the old one or the new one: at any moment, and wherever an export is killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import KILLED, end_at_change
from toys import write_clinical_study, write_toy_bundle

from rsna_lumbar.export.bundling import publish
from rsna_lumbar.export.bundling.build import extend_bundle
from rsna_lumbar.export.bundling.options import ExportOptions
from rsna_lumbar.export.graph import precisions
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.bundle.store import read_model
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL

FORK = "fork"
TWO = (SPINAL, FORAMINAL)  # several files; every change of each is a run
pytestmark = [
    pytest.mark.skipif(not hasattr(os, FORK), reason="needs fork; the kill sweep did not run"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_clinical_study(folder, "100", counts=(1, 1, 1))
    return folder


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toy bundle; a lower precision of its graphs is made by leaving them as they are."""
    monkeypatch.setattr(precisions, "graph_in", lambda _, graph, **__: graph)
    write_toy_bundle(tmp_path / "old", groups=TWO)
    return tmp_path / "old"


def extend(folder: Path, studies: Path) -> None:
    options = ExportOptions(("onnx",), ("fp16",), verify_data=studies)
    extend_bundle(folder, options=options, report=lambda _: None)


def state(folder: Path) -> str:
    """Which of the two bundles it is; every file of it is read and checked."""
    bundle = read_bundle(folder)
    for _, model in bundle.models:
        read_model(folder, model)
    return "+".join(variant.precision for variant in bundle.variants)


def extend_until(count: int, folder: Path, studies: Path) -> None:
    """Extend, and end without cleaning up before the ``count``-th change of a file or folder."""
    changes = (
        (os, "replace"),
        (os, "fsync"),
        (os, "rmdir"),
        (os, "unlink"),
        (Path, "mkdir"),
        (Path, "open"),
        (Path, "unlink"),
    )
    end_at_change(count, changes)
    extend(folder, studies)
    os._exit(0)


def kill_points(old: Path, studies: Path) -> Iterator[tuple[int, Path, int]]:
    """(number, what it left, exit code) of runs killed one change later each."""
    context = multiprocessing.get_context(FORK)
    for count in range(1000):
        folder = Path(shutil.copytree(old, old.with_name(f"killed-{count}")))
        child = context.Process(target=extend_until, args=(count, folder, studies))
        child.start()
        child.join()
        assert child.exitcode in (0, KILLED)
        yield count, folder, int(child.exitcode)
        if child.exitcode == 0:
            return


def test_killed_before_any_change(old: Path, studies: Path) -> None:
    seen = set()
    for count, folder, code in kill_points(old, studies):
        seen.add(state(folder))
        extend(folder, studies)
        assert state(folder) == "fp32+fp16"
        assert sorted(path.suffix for path in folder.iterdir()) == [
            ".json",
            *[".onnx"] * 2 * len(TWO),
        ]
        last = count, code
    assert seen == {"fp32", "fp32+fp16"}
    assert last[0] > 20 and last[1] == 0


def test_read_while_it_is_being_made(old: Path, studies: Path) -> None:
    """A reader that looks all the time sees the one bundle, then the other, and nothing else."""
    child = multiprocessing.get_context(FORK).Process(target=extend, args=(old, studies))
    seen = [state(old)]
    child.start()
    while child.is_alive():
        seen.append(state(old))
    child.join()
    seen.append(state(old))
    assert child.exitcode == 0
    assert seen[0] == "fp32" and seen[-1] == "fp32+fp16"
    assert seen == sorted(seen) and set(seen) == {"fp32", "fp32+fp16"}


def test_a_failed_extension_leaves_the_bundle(
    old: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Bundle:
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in old.iterdir()}
    monkeypatch.setattr(publish, "write_manifest", fail)
    with pytest.raises(OSError, match="No space left"):
        extend(old, studies)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
