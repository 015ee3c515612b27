"""A bundle of some groups that others are added to, and the window of its slices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from toys import write_clinical_study, write_toy_bundle

from rsna_lumbar.export import cli
from rsna_lumbar.export.bundling.build import Outcome, build_bundle, extend_bundle, verify_bundle
from rsna_lumbar.export.bundling.options import ExportOptions
from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.bundle.manifest import read_bundle, write_manifest
from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.core.errors import BundleError, CheckpointError, UsageError
from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, LOCATIONS, SPINAL, SUBARTICULAR
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.studies.finder import find_studies

Weights = Mapping[str, tuple[Path, ...]]
MIN_MAX = Preprocessing(0, 100)


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_clinical_study(folder, "100", seed=1, counts=(2, 2, 2))
    return folder


def export(folder: Path, weights: Weights, studies: Path, **changes: Any) -> tuple[Bundle, str]:
    said: list[str] = []
    settings = {"image_size_px": None, "options": ExportOptions(verify_data=studies), **changes}
    outcome: Outcome = build_bundle(folder, weights, report=said.append, **settings)
    assert not outcome.left_out and read_bundle(folder) == outcome.bundle
    return outcome.bundle, "\n".join(said)


def some(weights: Weights, *names: str) -> Weights:
    return {name: weights[name] for name in names}


def write_card(path: Path, preprocessing: Preprocessing) -> None:
    group = next(group for group in GROUPS if group.name == path.stem)
    fields = {
        "group": path.stem,
        "prior": [[0.5, 0.3, 0.2]] * len(group.locations),
        "size_px": 64,
        "preprocessing": asdict(preprocessing),
    }
    path.with_suffix(".json").write_text(json.dumps(fields))


def run_cli(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def rows(folder: Path, studies: Path) -> dict[str, bytes]:
    with Scorer(folder, device="cpu", batch_size=4) as scorer:
        (score,) = scorer.score(find_studies(studies))
    return {one.group.name: one.probability.tobytes() for one in score.groups}


# --- groups


def test_one_group_then_the_others(tmp_path: Path, weights: Weights, studies: Path) -> None:
    folder, whole = tmp_path / "bundle", tmp_path / "whole"
    first, said = export(folder, some(weights, "foraminal"), studies)
    assert first.groups == (FORAMINAL,)
    assert "no checkpoint for spinal, subarticular: rsna-run will write no rows for them" in said
    calibrated = replace(first.detectors[0], calibration=Calibration(2.0, (0.1, 0.0, -0.1)))
    write_manifest(folder, replace(first, detectors=(calibrated,), calibration_aim="metric"))
    alone = rows(folder, studies)

    second, said = export(folder, some(weights, "spinal"), studies)
    assert second.groups == (SPINAL, FORAMINAL)
    assert "kept from the bundle: foraminal" in said
    assert "not calibrated, unlike the other groups: spinal; run rsna-train calibrate" in said
    kept = second.detectors[1]
    assert kept.calibration == calibrated.calibration and second.calibration_aim == "metric"
    assert [m.files for m in kept.models] == [m.files for m in calibrated.models]

    third, said = export(folder, some(weights, "subarticular"), studies)
    assert third.groups == GROUPS and "no checkpoint for" not in said
    export(whole, weights, studies)
    together, plain = rows(folder, studies), rows(whole, studies)
    assert together["foraminal"] == alone["foraminal"] != plain["foraminal"]
    assert {name: together[name] for name in ("spinal", "subarticular")} == {
        name: plain[name] for name in ("spinal", "subarticular")
    }
    assert len(list(folder.iterdir())) == 4


def test_naming_a_group_replaces_it_alone(
    tmp_path: Path, weights: Weights, studies: Path, make_checkpoint: Any
) -> None:
    folder = tmp_path / "bundle"
    before, _ = export(folder, some(weights, "spinal", "foraminal"), studies)
    detectors = [replace(one, calibration=Calibration(3.0)) for one in before.detectors]
    detectors[1] = replace(detectors[1], by_views=Calibration(2.0))
    before = replace(before, detectors=tuple(detectors), calibration_aim="probability")
    write_manifest(folder, before)
    other = tmp_path / "other.pt"
    other.write_bytes(make_checkpoint(SPINAL, "n", 3).path.read_bytes())
    after, said = export(folder, {"spinal": (other,)}, studies)
    assert after.groups == (SPINAL, FORAMINAL) and after.calibration_aim == "probability"
    assert after.detectors[0].calibration == Calibration(), "it was fitted to other peaks"
    assert after.detectors[1].calibration == Calibration(3.0)
    assert after.detectors[1].by_views is None, "it was fitted by the discs of another detector"
    assert "foraminal: views are no longer used" in said
    new, old = (bundle.detectors[0].models[0] for bundle in (after, before))
    assert new.weights_sha256 != old.weights_sha256
    assert not (folder / old.files[0].name).exists()
    final, _ = export(folder, some(weights, "spinal", "foraminal"), studies)
    assert final.calibration_aim == "none", "nothing of the bundle before is left"


def test_a_bundle_that_lacks_groups_is_extended_and_verified(
    tmp_path: Path, weights: Weights, studies: Path
) -> None:
    """--format and --verify work on the groups there are; a variant is whole where they have it."""
    if find_spec("openvino") is None:  # importing it would phone home
        pytest.skip("OpenVINO is not installed")
    folder = tmp_path / "bundle"
    export(folder, some(weights, "spinal"), studies)
    options = ExportOptions(formats=("openvino",), verify_data=studies)
    bundle = extend_bundle(folder, options=options, report=lambda _: None).bundle
    assert [str(variant) for variant in bundle.variants] == ["onnxruntime fp32", "openvino fp32"]
    verified = verify_bundle(
        folder, options=ExportOptions(verify_data=studies), trust=False, report=lambda _: None
    )
    assert verified.bundle.groups == (SPINAL,) and verified.bundle.variants == bundle.variants

    added, said = export(folder, some(weights, "foraminal"), studies)
    assert [str(variant) for variant in added.variants] == ["onnxruntime fp32"]
    assert "openvino fp32 is not used, because only spinal has it; add it to the other" in said
    again, said = export(folder, some(weights, "foraminal"), studies, options=options)
    assert len(again.variants) == 2 and "is not used" not in said


def test_it_is_verified_on_studies_that_have_its_groups(tmp_path: Path, weights: Weights) -> None:
    """Also with labels: the metric is of the groups there are."""
    data = tmp_path / "data"
    write_clinical_study(data / "test_images", "1", seed=1, counts=(2, 2, 2))
    write_clinical_study(data / "test_images", "2", seed=2, counts=(2, 0, 0))
    labels = tmp_path / "train.csv"
    graded = ["Severe" if location in SPINAL.locations else "" for location in LOCATIONS]
    lines = [["study_id", *map("_".join, LOCATIONS)], ["1", *graded], ["2", *graded]]
    labels.write_text("\n".join(map(",".join, lines)))
    options = ExportOptions(verify_data=data, verify_labels=labels)
    bundle, _ = export(tmp_path / "bundle", some(weights, "spinal"), data, options=options)
    parity = bundle.detectors[0].models[0].parity
    assert parity and parity.slices == 4 and parity.rows == 10
    assert parity.metric and parity.metric[1] == pytest.approx(parity.metric[0], abs=1e-4)


def test_a_damaged_bundle_is_not_added_to(tmp_path: Path, weights: Weights, studies: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="rebuild it with rsna-export"):
        export(folder, some(weights, "spinal"), studies)
    assert export(folder, weights, studies)[0].groups == GROUPS


# --- window


@pytest.mark.parametrize(
    ("card", "window", "expected", "source"),
    [
        (None, None, Preprocessing(), "assumed"),
        (None, (0.0, 100.0), MIN_MAX, "asked"),
        (MIN_MAX, None, MIN_MAX, "card"),
        (MIN_MAX, (0.0, 100.0), MIN_MAX, "card"),
    ],
)
def test_where_the_window_comes_from(
    tmp_path: Path,
    weights: Weights,
    studies: Path,
    capsys: pytest.CaptureFixture[str],
    card: Preprocessing | None,
    window: tuple[float, float] | None,
    expected: Preprocessing,
    source: str,
) -> None:
    (path,) = weights["spinal"]
    if card:
        write_card(path, card)
    folder = tmp_path / "bundle"
    bundle, said = export(folder, some(weights, "spinal"), studies, window=window)
    assert bundle.preprocessing == expected and bundle.window_from == source
    line = "no card and no --window: spinal.pt assumed to be trained on slices windowed by "
    assert (
        said.count(line) == (source == "assumed") and said.count("--window") == said.count(line) * 2
    )
    code, out, _ = run_cli(["--inspect", str(folder)], capsys)
    words = {
        "card": "from the cards of its checkpoints",
        "asked": "requested with --window",
        "assumed": "assumed: no card, and no --window",
    }
    low, high = expected.low_percentile, expected.high_percentile
    assert code == 0
    assert f"window: percentiles {low:g} to {high:g} of each slice ({words[source]})" in out
    assert "foraminal: no detector; Sagittal T1 is not read, no rows are written" in out


def test_a_window_that_a_card_contradicts(
    tmp_path: Path, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = weights["spinal"]
    write_card(path, Preprocessing())
    words = [str(tmp_path / "bundle"), f"--spinal={path}", "--window", "0", "100"]
    code, out, err = run_cli(words, capsys)
    assert code == 2 and not out and not (tmp_path / "bundle").exists()
    assert err.splitlines()[-1] == (
        f"Error: {path.with_suffix('.json')} says that spinal.pt was trained with the window of "
        "percentiles 0.5 to 99.5, but --window asks for percentiles 0 to 100; leave --window out"
    )


@pytest.mark.parametrize("window", [(1.0, 1.0), (-1.0, 50.0), (0.0, 101.0), (0.0, float("nan"))])
def test_a_window_that_is_none(
    tmp_path: Path, weights: Weights, studies: Path, window: tuple[float, float]
) -> None:
    with pytest.raises(UsageError, match="percentiles must satisfy 0 <= low < high <= 100"):
        export(tmp_path / "bundle", some(weights, "spinal"), studies, window=window)


def test_checkpoints_without_a_card_beside_one_with(
    tmp_path: Path, weights: Weights, studies: Path
) -> None:
    """What would only be assumed cannot contradict a card in silence; asked for, it may agree."""
    write_card(weights["spinal"][0], MIN_MAX)
    two = some(weights, "spinal", "foraminal")
    folder = tmp_path / "bundle"
    with pytest.raises(CheckpointError, match=r"0 to 100 \(card\); foraminal\.pt: .*assumed"):
        export(folder, two, studies)
    bundle, _ = export(folder, two, studies, window=(0.0, 100.0))
    assert bundle.preprocessing == MIN_MAX and bundle.window_from == "asked"


def test_a_group_that_is_added_has_the_window_of_the_bundle(
    tmp_path: Path, weights: Weights, studies: Path
) -> None:
    folder = tmp_path / "bundle"
    export(folder, some(weights, "spinal"), studies, window=(0.0, 100.0))
    before = (folder / "bundle.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"the bundle: percentiles 0 to 100 \(asked\)"):
        export(folder, some(weights, "subarticular"), studies)
    assert (folder / "bundle.json").read_bytes() == before
    write_card(weights["subarticular"][0], MIN_MAX)
    bundle, _ = export(folder, some(weights, "subarticular"), studies)
    assert bundle.groups == (SPINAL, SUBARTICULAR) and bundle.window_from == "asked"


def test_the_window_reaches_the_slices(tmp_path: Path, weights: Weights, studies: Path) -> None:
    folder = tmp_path / "bundle"
    export(folder, some(weights, "spinal"), studies)
    assumed = rows(folder, studies)
    export(folder, some(weights, "spinal"), studies, window=(0.0, 100.0))
    assert rows(folder, studies) != assumed


def test_checkpoints_that_are_not_square(tmp_path: Path, weights: Weights, studies: Path) -> None:
    import torch

    (path,) = weights["spinal"]
    content = torch.load(path, weights_only=False)
    torch.save({**content, "train_args": {"imgsz": [64, 96]}}, path)
    with pytest.raises(
        UsageError, match=r"was trained on 64 x 96 px, .* squares; give --image-size"
    ):
        export(tmp_path / "bundle", some(weights, "spinal"), studies)
    bundle, _ = export(tmp_path / "bundle", some(weights, "spinal"), studies, image_size_px=96)
    assert bundle.detectors[0].size_px == 96


@pytest.mark.parametrize("mode", [["--inspect"], ["--verify"], ["--format", "openvino"]])
def test_a_window_means_nothing_without_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: list[str]
) -> None:
    folder = tmp_path / "bundle"
    write_toy_bundle(folder)
    code, _, err = run_cli([str(folder), *mode, "--window", "0", "100"], capsys)
    assert code == 2 and "--window cannot be used with" in err
