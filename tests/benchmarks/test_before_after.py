"""Stages of two builds over the demo: each build's own code runs, and what it gives is compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from before_after_stages import Build, Stage, stages_in_turns
from stage_clock import STAGES, Task

import rsna_lumbar.runtime
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.demo import demo_bundle, demo_studies

ROUNDS = 2
# Of the later build: it knows nothing of the first group.
OTHER_SCORES = """
_scored = scored


def scored(*words):
    for score in _scored(*words):
        score.groups[0].probability[:] = 1 / 3
        yield score
"""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[Stage]:
    folder = tmp_path_factory.mktemp("builds")
    builds = {name: make_build(folder / name) for name in ("before", "after")}
    scored = builds["after"].package / "rsna_lumbar/runtime/inference/pipeline.py"
    with scored.open("a") as module:
        module.write(OTHER_SCORES)
    without_table = folder / "no-table"
    shutil.copytree(demo_studies() / "test_images", without_table / "test_images")
    task = Task(
        data=str(demo_studies()),
        without_table=str(without_table),
        bundle=str(demo_bundle()),
        backend="onnxruntime",
        precision="fp32",
        slices="all",
        threads=1,
        least=1,
        repeat_s=0.0,
    )
    return list(stages_in_turns(builds, task, rounds=ROUNDS))


def make_build(folder: Path) -> Build:
    source = Path(rsna_lumbar.runtime.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__", "test_images", "*.onnx")  # of the demo
    shutil.copytree(source, folder / "package/rsna_lumbar/runtime", ignore=ignored)
    (folder / "scratch").mkdir()
    return Build(folder / "package", folder / "scratch")


def test_every_stage_of_each_build_took_its_time(stages: list[Stage]) -> None:
    assert tuple(stage.name for stage in stages) == STAGES
    for stage in stages:
        assert {name: len(runs) for name, runs in stage.runs.items()} == {
            "before": ROUNDS,
            "after": ROUNDS,
        }
        assert all(one.cpu_s > 0 < one.wall_s for runs in stage.runs.values() for one in runs)


def test_what_differs_between_builds_is_told(stages: list[Stage]) -> None:
    same = {stage.name: stage.same for stage in stages}
    assert [name for name in STAGES if not same[name]] == ["infer", "write"]


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not hold rsna_lumbar/runtime"):
        Build(tmp_path, tmp_path)
