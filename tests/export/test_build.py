"""Checkpoints to a bundle: whole, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import write_clinical_study

from rsna_lumbar.export import cli
from rsna_lumbar.export.bundling import candidates, publish
from rsna_lumbar.export.bundling.build import build_bundle
from rsna_lumbar.export.bundling.options import ExportOptions
from rsna_lumbar.export.verification.limits import LIMITS, Limits
from rsna_lumbar.export.verification.parity import require_parity
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.bundle.store import read_model
from rsna_lumbar.runtime.core.errors import (
    CheckpointError,
    ExportError,
    UsageError,
    VerificationError,
)
from rsna_lumbar.runtime.core.labels import GROUPS, SPINAL
from rsna_lumbar.runtime.core.postprocess import COMBINATIONS
from rsna_lumbar.runtime.core.preprocess import Preprocessing

Weights = Mapping[str, tuple[Path, ...]]


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small DICOM studies to verify with."""
    folder = tmp_path_factory.mktemp("studies")
    write_clinical_study(folder, "100", seed=1)
    write_clinical_study(folder, "200", seed=2)
    return folder


@pytest.fixture
def one_group(weights: Weights) -> Weights:
    """What is the same for every group is tried on one: each costs an export."""
    return {"spinal": weights["spinal"]}


def export(
    folder: Path,
    weights: Weights,
    studies: Path,
    options: Mapping[str, Any] | None = None,
    **changes: Any,
) -> tuple[Bundle, str]:
    said: list[str] = []
    options = ExportOptions(**{"verify_data": studies, **(options or {})})
    changes = {"image_size_px": None, **changes}
    outcome = build_bundle(folder, weights, options=options, report=said.append, **changes)
    assert not outcome.left_out
    return outcome.bundle, "\n".join(said)


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Any, studies: Path
) -> tuple[Path, Bundle]:
    """A bundle of the checkpoint of :func:`one_group`, to copy."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    weights = {"spinal": (make_checkpoint(SPINAL, "n", 1).path,)}
    return folder, export(folder, weights, studies)[0]


@pytest.fixture
def old(tmp_path: Path, exported: tuple[Path, Bundle]) -> tuple[Path, Bundle]:
    folder, bundle = exported
    return Path(shutil.copytree(folder, tmp_path / "bundle")), bundle


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write_card(weights: Path, group: str, locations: int, **changes: Any) -> None:
    fields = {
        "group": group,
        "prior": [[0.5, 0.3, 0.2]] * locations,
        "size_px": 96,
        "preprocessing": asdict(Preprocessing()),
        **changes,
    }
    weights.with_suffix(".json").write_text(json.dumps(fields))


def test_writes_a_bundle(tmp_path: Path, weights: Weights, studies: Path) -> None:
    folder = tmp_path / "new" / "bundle"
    bundle, said = export(folder, weights, studies)
    assert read_bundle(folder) == bundle
    assert {one.group for one in bundle.detectors} == set(GROUPS)
    for detector in bundle.detectors:
        (model,) = detector.models
        assert read_model(folder, model)
        assert detector.size_px == 64  # as trained
        assert (model.backend, model.target, model.precision) == ("onnxruntime", "any", "fp32")
        assert (
            model.parity.source == "data"
            and model.parity.slices
            == 2
            * {
                "spinal": 3,
                "foraminal": 4,
                "subarticular": 5,
            }[detector.group.name]
        )
        assert 0 < model.parity.peak <= LIMITS["fp32"].peak
        assert 0 < model.parity.probability <= LIMITS["fp32"].probability
        assert model.weights_sha256 in said
        np.testing.assert_allclose(detector.prior[0], [77 / 133, 32 / 133, 24 / 133])
    assert "every prior row is the published one (0.579, 0.241, 0.180)" in said
    assert len(list(folder.iterdir())) == 4
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bundle"]


def test_second_export_replaces_the_first(
    old: tuple[Path, Bundle], one_group: Weights, studies: Path
) -> None:
    folder, first = old
    (folder / "notes.txt").write_text("mine")
    second, _ = export(folder, one_group, studies, image_size_px=96)
    assert {one.size_px for one in second.detectors} == {96}
    before = {file.name for _, model in first.models for file in model.files}
    new = {file.name for _, model in second.models for file in model.files}
    assert not before & new
    assert set(contents(folder)) == new | {"bundle.json", "notes.txt"}


def test_ensemble_and_cards(
    tmp_path: Path, one_group: Weights, studies: Path, make_checkpoint: Any
) -> None:
    (first,) = one_group["spinal"]
    second = tmp_path / "second.pt"
    second.write_bytes(make_checkpoint(SPINAL, "n", 3).path.read_bytes())
    write_card(first, "spinal", 5, size_px=64)
    write_card(second, "spinal", 5, size_px=64, prior=[[0.7, 0.1, 0.2]] * 5)
    bundle, _ = export(tmp_path / "bundle", {"spinal": (first, second)}, studies)
    spinal = bundle.detectors[0]
    assert len(spinal.models) == 2 and spinal.combination == "mean"
    assert len({model.weights_sha256 for model in spinal.models}) == 2
    np.testing.assert_allclose(spinal.prior, [[0.6, 0.2, 0.2]] * 5)


def test_an_ensemble_by_maximum(tmp_path: Path, one_group: Weights, studies: Path) -> None:
    bundle, _ = export(tmp_path / "bundle", one_group, studies, combination="maximum")
    assert {one.combination for one in bundle.detectors} == {"maximum"}
    assert read_bundle(tmp_path / "bundle") == bundle
    (option,) = (one for one in cli.cli.params if one.name == "combination")
    assert tuple(option.to_info_dict()["type"]["choices"]) == COMBINATIONS


def test_size_of_the_card_comes_before_the_checkpoint(
    tmp_path: Path, weights: Weights, studies: Path
) -> None:
    write_card(weights["spinal"][0], "spinal", 5)
    two = {name: weights[name] for name in ("spinal", "foraminal")}
    bundle, _ = export(tmp_path / "bundle", two, studies)
    assert [one.size_px for one in bundle.detectors] == [96, 64]


def break_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Limits(0.0, 0.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(
        candidates, "require_parity", lambda parity, _, name: require_parity(parity, nothing, name)
    )


def break_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "write_manifest", fail)


@pytest.mark.parametrize("breakage", [break_verification, break_manifest])
def test_failure_leaves_nothing_behind(
    tmp_path: Path,
    one_group: Weights,
    studies: Path,
    monkeypatch: pytest.MonkeyPatch,
    breakage: Any,
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    breakage(monkeypatch)
    with pytest.raises((VerificationError, OSError)):
        export(place / "deep" / "bundle", one_group, studies)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("breakage", [break_verification, break_manifest])
def test_failure_leaves_the_old_bundle(
    old: tuple[Path, Bundle],
    one_group: Weights,
    studies: Path,
    monkeypatch: pytest.MonkeyPatch,
    breakage: Any,
) -> None:
    folder, _ = old
    before = contents(folder)
    breakage(monkeypatch)
    for size_px in (64, 96):  # the same files again, and others
        with pytest.raises((VerificationError, OSError)):
            export(folder, one_group, studies, image_size_px=size_px)
        assert contents(folder) == before


@pytest.mark.parametrize("damage", ["checkpoint", "swapped", "card"])
def test_refuses_before_it_writes(
    tmp_path: Path, weights: Weights, studies: Path, damage: str
) -> None:
    path = weights["subarticular"][0]
    if damage == "checkpoint":
        path.write_bytes(b"rubbish")
    elif damage == "swapped":
        weights = {**weights, "subarticular": weights["foraminal"]}
    else:
        path.with_suffix(".json").write_text("{}")
    with pytest.raises(CheckpointError):
        export(tmp_path / "bundle", weights, studies)
    assert not (tmp_path / "bundle").exists()


def test_refuses_what_does_not_agree(tmp_path: Path, weights: Weights, studies: Path) -> None:
    (path,) = weights["spinal"]
    with pytest.raises(UsageError, match="are the same weights"):
        export(tmp_path / "bundle", {**weights, "spinal": (path, path)}, studies)
    with pytest.raises(UsageError, match="image size 70 is not a multiple of 32"):
        export(tmp_path / "bundle", weights, studies, image_size_px=70)
    write_card(path, "spinal", 5, preprocessing=asdict(Preprocessing(0, 100)))
    with pytest.raises(ExportError) as refusal:
        export(tmp_path / "bundle", weights, studies)
    assert "all detectors of a bundle share one preprocessing, but these differ" in str(
        refusal.value
    )
    assert "spinal.pt: percentiles 0 to 100 (card); foraminal.pt: percentiles 0.5" in str(
        refusal.value
    )


def test_refuses_data_without_a_group(tmp_path: Path, weights: Weights) -> None:
    data = tmp_path / "data"
    write_clinical_study(data, "100", counts=(2, 2, 0))
    two = {name: weights[name] for name in ("foraminal", "subarticular")}
    with pytest.raises(ExportError, match=r"no slice that subarticular reads \(Axial T2\)"):
        export(tmp_path / "bundle", two, data)
    assert not (tmp_path / "bundle").exists()


def run_cli(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_command(
    tmp_path: Path, weights: Weights, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    options = [f"--{name}={path}" for name, (path,) in weights.items()]
    code, out, err = run_cli([str(folder), *options, f"--verify-data={studies}"], capsys)
    assert code == 0, err
    assert out.count("pytorch, ") == 3 and "is ready: rsna-run" in out and "SHA-256" in err
    code, out, _ = run_cli(["--inspect", "--debug", str(folder)], capsys)
    assert code == 0 and out.count(" ok ") == 3 and out.count("pytorch, ") == 3
    assert out.count("peaks divided by their sum") == 3 and "aim of the calibration: none" in out
    model = next(folder.glob("spinal-*"))
    model.write_bytes(b"other")
    next(folder.glob("foraminal-*")).unlink()
    code, out, _ = run_cli(["--inspect", str(folder)], capsys)
    assert code == 1
    states = [line.split()[5] for line in out.split("\n\n")[1].splitlines()[1:]]
    assert states == ["differs", "missing", "ok"]
    assert "SHA-256" in out and "No such file" in out


def test_command_refuses_in_one_line(
    tmp_path: Path, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--{name}={path}" for name, (path,) in weights.items()]
    weights["spinal"][0].write_bytes(b"rubbish")
    code, out, err = run_cli([str(tmp_path / "b"), *options], capsys)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ") and err.count("\n") == 1 and "spinal.pt" in err
    code, _, err = run_cli([str(tmp_path / "b")], capsys)
    assert code == 2 and "not a bundle yet: name a checkpoint (--spinal, --foraminal" in err
    code, _, err = run_cli([str(tmp_path / "b"), *options[1:], "--window", "5", "5"], capsys)
    assert code == 2 and "--window 5 5: percentiles must satisfy 0 <= low < high <= 100" in err
    code, _, err = run_cli(["--inspect", str(tmp_path / "b")], capsys)
    assert code == 1 and "is no bundle" in err and "Traceback" not in err


def test_missing_extra_is_one_line(
    tmp_path: Path,
    weights: Weights,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    options = [f"--{name}={path}" for name, (path,) in weights.items()]
    code, _, err = run_cli([str(tmp_path / "b"), *options], capsys)
    assert code == 2 and "pip install 'rsna-lumbar[export]'" in err
