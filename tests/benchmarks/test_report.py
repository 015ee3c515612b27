"""Results as table, JSON and CSV, and what is said of samples, worked by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from rsna_lumbar.benchmarks.commands.shared import output_options
from rsna_lumbar.benchmarks.harness.command_line import command_line
from rsna_lumbar.benchmarks.harness.report import (
    Block,
    Column,
    Results,
    as_csv,
    as_json,
    as_table,
    write_outputs,
)
from rsna_lumbar.benchmarks.harness.timing import (
    Summary,
    in_turns,
    interleaved,
    ratios,
    rounds_within,
    summary,
    warm_up,
)
from rsna_lumbar.benchmarks.model.plots import draw_model
from rsna_lumbar.benchmarks.pipeline.plots import draw_pipeline, draw_start

TIMES = Summary(4.0, 5.0, 5.5, 3.0, 6.0)
COLUMNS = (
    Column("name", "", left=True),
    Column("ms", "ms/slice", "{.median:.2f}"),
    Column("gap", "gap", "{:.1e}"),
)
RESULTS = Results(
    part="model",
    command="rsna-bench model --sizes 64",
    conditions={"threads": 2, "machine": "a CPU, 2 cores"},
    blocks=(
        Block(
            "64 px",
            COLUMNS,
            ({"name": "a", "ms": TIMES, "gap": None}, {"name": "bcd", "ms": TIMES}),
        ),
        Block("96 px", COLUMNS, ({"name": "a", "ms": TIMES, "gap": 3e-6, "count": 7},)),
        Block(
            "kinds", (Column("name", "a"), Column("met", "met")), ({"name": 1.23456, "met": True},)
        ),
    ),
    notes=("gap: a definition",),
)
COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results"


def test_a_table_worked_by_hand() -> None:
    assert as_table(RESULTS).splitlines() == [
        "$ rsna-bench model --sizes 64",
        "",
        "64 px",
        "     ms/slice  gap",
        "a        4.00    -",
        "bcd      4.00    -",
        "",
        "96 px",
        "   ms/slice      gap",
        "a      4.00  3.0e-06",
        "",
        "kinds",
        "   a  met",
        "1.23  yes",
        "",
        "gap: a definition",
        "threads: 2",
        "machine: a CPU, 2 cores",
    ]


def test_json_holds_every_value() -> None:
    found = json.loads(as_json(RESULTS))
    assert set(found) == {"part", "command", "conditions", "blocks", "notes"}
    assert found["conditions"] == {"threads": 2, "machine": "a CPU, 2 cores"}
    assert [block["title"] for block in found["blocks"]] == ["64 px", "96 px", "kinds"]
    assert found["blocks"][2]["rows"] == [{"name": 1.23456, "met": True}]
    (row,) = found["blocks"][1]["rows"]
    assert row["ms"] == {"median": 4.0, "p95": 5.0, "p99": 5.5, "low": 3.0, "high": 6.0}
    assert row["count"] == 7


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float64("-inf")])
def test_json_refuses_what_is_not_finite(number: float) -> None:
    bad = Results("model", "c", {}, (Block("t", (), ({"ms": {"median": number}},)),), ())
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json(bad)


def test_csv_has_a_line_a_row_with_the_conditions() -> None:
    first, second, third, _ = csv.DictReader(as_csv(RESULTS).splitlines())
    assert (first["block"], second["name"], third["block"]) == ("64 px", "bcd", "96 px")
    assert (first["ms_median"], first["ms_p99"]) == ("4", "5.5")
    assert (first["gap"], second["gap"], third["gap"]) == ("", "", "3e-06")
    assert [row["threads"] for row in (first, second, third)] == ["2"] * 3
    assert third["machine"] == "a CPU, 2 cores"


def test_only_the_files_asked_for_are_written(tmp_path: Path) -> None:
    drawn: list[Path] = []

    def draw(_: Results, path: Path) -> None:
        drawn.append(path)

    write_outputs(RESULTS, tmp_path / "a.json", None, None, draw)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text())["part"] == "model"
    assert drawn == []
    write_outputs(RESULTS, None, None, tmp_path / "a.png", draw)
    assert drawn == [tmp_path / "a.png"]


def read_results(path: Path) -> Results:
    """Results from their JSON file, without columns: enough to draw them again."""
    keys = {field.name for field in fields(Summary)}
    content = json.loads(
        path.read_bytes(),
        object_hook=lambda found: Summary(**found) if set(found) == keys else found,
    )
    blocks = tuple(Block(one["title"], (), tuple(one["rows"])) for one in content["blocks"])
    return Results(**{**content, "blocks": blocks, "notes": tuple(content["notes"])})


@pytest.mark.parametrize(
    ("pattern", "draw"),
    [("model_*", draw_model), ("pipeline*", draw_pipeline), ("start", draw_start)],
)
def test_committed_results_are_read_and_drawn_again(
    pattern: str, draw: Callable[[Results, Path], None], tmp_path: Path
) -> None:
    paths = sorted(COMMITTED.glob(f"{pattern}.json"))
    assert paths
    for path in paths:
        results = read_results(path)
        assert as_json(results) == path.read_text()
        assert as_csv(results) == path.with_suffix(".csv").read_text()
        draw(results, tmp_path / "plot.png")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_summary_worked_by_hand() -> None:
    found = summary(np.arange(101.0))
    assert found == Summary(median=50, p95=95, p99=99, low=0, high=100)
    assert summary(np.array([3.0])) == Summary(3, 3, 3, 3, 3)


@pytest.mark.parametrize("samples", [[], [1.0, float("nan")]])
def test_no_summary_of_nothing(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="samples"):
        summary(np.array(samples))


def test_ratios_are_taken_round_by_round() -> None:
    """A round in which everything is ten times slower has the ratio of any other."""
    found = ratios(np.array([4.0, 40.0, 6.0]), np.array([2.0, 20.0, 2.0]))
    assert (found.median, found.low, found.high) == (2, 2, 3)


def test_every_contender_comes_once_a_round_in_another_order() -> None:
    calls: list[str] = []
    done: list[int] = []
    contenders = {name: lambda name=name: calls.append(name) for name in "abc"}
    found = interleaved(contenders, rounds=20, progress=done.append)
    rounds = ["".join(calls[start : start + 3]) for start in range(0, 60, 3)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"}
    assert len(set(rounds)) == 6  # every order there is, so no one has a neighbour for good
    assert done == [1] * 20
    first = calls.copy()
    assert in_turns(contenders, rounds=20) == dict.fromkeys("abc", [None] * 20)
    assert calls == 2 * first  # the same orders in every run
    assert {name: samples.shape for name, samples in found.items()} == dict.fromkeys("abc", (20,))
    assert all((samples >= 0).all() for samples in found.values())


@pytest.mark.parametrize(
    ("limit_s", "round_s", "rounds"), [(100, 10, 10), (90, 10, 9), (20, 10, 3), (1e9, 10, 10)]
)
def test_rounds_that_fit_into_a_time(limit_s: float, round_s: float, rounds: int) -> None:
    assert rounds_within(limit_s, round_s, wanted=10) == rounds


def test_warming_up_calls_each_once() -> None:
    calls: list[str] = []
    assert warm_up([lambda name=name: calls.append(name) for name in "ab"]) >= 0
    assert calls == ["a", "b"]


def test_nobody_to_time() -> None:
    assert interleaved({}, rounds=2) == {}


def test_a_command_line_names_no_folder() -> None:
    seen: list[str] = []

    @click.command("part")
    @click.option("--weights", type=click.Path(path_type=Path))
    @click.option("--scale", default="n")
    @click.option("--quick", is_flag=True)
    @output_options(rounds=3)
    @click.pass_context
    def cli(context: click.Context, **_: object) -> None:
        seen.append(command_line(context))

    words = ["--weights", "/a/b/my net.pt", "--quick", "--rounds", "5", "--csv", "/a/out.csv"]
    result = CliRunner().invoke(cli, words, prog_name="rsna-bench part", catch_exceptions=False)
    assert result.exit_code == 0
    assert seen == ["rsna-bench part --weights 'my net.pt' --quick --rounds 5 --csv out.csv"]
