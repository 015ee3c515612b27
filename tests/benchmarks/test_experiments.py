"""The parts of the experiments' scripts that could be wrong without anybody seeing it."""

from __future__ import annotations

import csv
import sys
from importlib.util import find_spec
from pathlib import Path

import ensembles
import flips
import numpy as np
import prepare_scale
import pytest
import rtx_targets
from click.testing import CliRunner
from ending import DEADLINE_S

from rsna_lumbar.runtime.backends.tensorrt_library import load_library
from rsna_lumbar.runtime.bundle.plan_header import read_plan_header
from rsna_lumbar.runtime.core.labels import GROUPS
from rsna_lumbar.runtime.core.metric import NO_GRADE
from rsna_lumbar.runtime.core.postprocess import COMBINATIONS, Combination
from rsna_lumbar.runtime.inference.compatibility import NO_GPU
from rsna_lumbar.runtime.system.machine import this_machine
from rsna_lumbar.train.calibration.labelled_peaks import GroupPeaks, PeakTable

NEEDS_RTX = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="needs tensorrt-rtx; its builds were not tried"
)


def test_the_large_tree_has_the_challenges_sizes(tmp_path: Path) -> None:
    series = list(prepare_scale.large_series())
    assert len({stack.study for stack in series}) == prepare_scale.STUDIES
    assert len(series) == prepare_scale.SERIES
    assert sum(stack.count for stack in series) == prepare_scale.SLICES
    assert all(max(stack.labelled, default=0) <= stack.count for stack in series)
    prepare_scale.write_tables(tmp_path, series)
    with (tmp_path / "train_label_coordinates.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == prepare_scale.POINTS
    labelled = {(row["series_id"], row["instance_number"]) for row in rows}
    assert len(labelled) == prepare_scale.LABELLED


def table(*peaks: np.ndarray) -> PeakTable:
    return PeakTable(
        ("1",),
        tuple(
            GroupPeaks(group, one[None], np.full((1, len(one)), NO_GRADE))
            for group, one in zip(GROUPS, peaks, strict=True)
        ),
    )


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_pairs_are_combined_as_the_runtime_does(combination: Combination) -> None:
    rng = np.random.default_rng(1)
    first, second = ([rng.random((len(group.locations), 3)) for group in GROUPS] for _ in range(2))
    found = ensembles.combine(table(*first), table(*second), combination)
    for group, a, b in zip(found.groups, first, second, strict=True):
        expected = np.maximum(a, b) if combination == "maximum" else (a + b) / 2
        np.testing.assert_allclose(group.peaks[0], expected, rtol=1e-15)


def test_a_side_by_hand() -> None:
    """Two studies: the first right in all levels, the second in none; sides differ in one level."""
    right, wrong = [0.8, 0.1, 0.1], [0.25, 0.5, 0.25]
    given = np.array([[right] * 5, [wrong] * 5])
    grade = np.zeros((2, 5), np.int64)
    apart = np.zeros((2, 5), bool)
    apart[0, 0] = True
    accuracy, where_apart, loss = flips.figures(given, grade, apart)
    assert (accuracy, where_apart) == (0.5, 1.0)
    assert loss == pytest.approx(-(np.log(0.8) + np.log(0.25)) / 2)


def test_the_standard_error_is_that_of_studies_not_of_rows() -> None:
    """Half of 200 studies right in all five levels: sqrt(0.25 / 200), not sqrt(0.25 / 1000)."""
    given = np.repeat([[[0.8, 0.1, 0.1]], [[0.25, 0.5, 0.25]]], 100, axis=0).repeat(5, axis=1)
    grade = np.zeros((200, 5), np.int64)
    found = flips.side_of(given, grade, grade == 0)
    assert found.figures[0] == 0.5
    assert found.errors[0] == pytest.approx(0.0354, abs=0.004)


@NEEDS_RTX
def test_what_tensorrt_rtx_builds_for_is_listed_without_a_gpu() -> None:
    if this_machine().gpus:
        pytest.skip("a GPU is here; what is said without one was not tried")
    done = CliRunner().invoke(rtx_targets.cli)
    assert done.exit_code == 0, done.output
    listed, *rest = done.output.splitlines()
    assert "8.9" in listed and rest == [NO_GPU]


def test_a_trial_that_crashes_or_hangs_is_told() -> None:
    def run(program: str, limit_s: float) -> str:
        return rtx_targets.run_apart((sys.executable, "-c", program), limit_s=limit_s)

    assert run("print('built'); print('max diff 0')", DEADLINE_S) == "built; max diff 0"
    crash = "import os; print('built', flush=True); os.abort()"
    assert run(crash, DEADLINE_S) == "built; ended with -6"
    child = "import subprocess, sys; subprocess.run(['sleep', '1000'])"  # holds the pipe
    assert run(child, 0.5) == "hung: stopped after 0.5 s"


@NEEDS_RTX
def test_tensorrt_rtx_builds_for_its_own_targets() -> None:
    """Past export's own choice, as it will be tried on a GPU that is not listed."""
    trt = load_library(rtx_targets.NAME)
    plan = rtx_targets.make_plan(trt, rtx_targets.DEFAULT)
    assert read_plan_header(plan).library == rtx_targets.NAME
    refused = rtx_targets.tried(lambda: rtx_targets.built_by_export("9.0"))
    assert refused.startswith("refused: ") and "9.0" in refused
