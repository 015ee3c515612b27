"""The bundle reader refuses what it cannot trust, and says what mends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rsna_lumbar.runtime.bundle import (
    read_bundle,
    read_model,
    remove_unreferenced,
    write_manifest,
)
from rsna_lumbar.runtime.errors import BundleError


@pytest.fixture
def bundle(toy_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "bundle.json"
    fields = json.loads(path.read_text())
    edit(fields)
    path.write_text(json.dumps(fields))


def test_round_trip(bundle: Path, tmp_path: Path) -> None:
    found = read_bundle(bundle)
    write_manifest(tmp_path, found)
    assert read_bundle(tmp_path) == found
    assert (tmp_path / "bundle.json").read_text() == (bundle / "bundle.json").read_text()


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle\.json; make one with rsna-export"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "\x00", "[" * 100_000, '{"format_version": 1}']
)
def test_damaged_manifests_are_refused(bundle: Path, text: str) -> None:
    (bundle / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match="rebuild it with rsna-export"):
        read_bundle(bundle)


@pytest.mark.parametrize("version", [0, 3, "1", None, True])
def test_other_format_versions_are_refused(bundle: Path, version: object) -> None:
    change(bundle, lambda fields: fields.update(format_version=version))
    with pytest.raises(BundleError, match="format version"):
        read_bundle(bundle)


def every_path(fields: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = fields.keys() if isinstance(fields, dict) else range(len(fields))
    found = []
    for key in keys:
        found.append((*path, key))
        if isinstance(fields[key], dict | list):
            found += every_path(fields[key], (*path, key))
    return found


def test_every_field_is_needed_and_typed(bundle: Path) -> None:
    """Each field in turn replaced by another type; nothing but BundleError may come out."""
    original = json.loads((bundle / "bundle.json").read_text())
    free = {"made_with"}
    paths = [path for path in every_path(original) if path[0] not in free]
    assert len(paths) > 200
    for path in paths:
        fields = json.loads(json.dumps(original))
        inner = fields
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = {"no": "such"} if not isinstance(inner[path[-1]], dict) else 3
        (bundle / "bundle.json").write_text(json.dumps(fields))
        with pytest.raises(BundleError):
            read_bundle(bundle)


def as_format_1(fields: dict[str, Any]) -> dict[str, Any]:
    """A manifest as rsna-export wrote it before: one float32 ONNX file a model, always verified."""
    old = json.loads(json.dumps(fields))
    old["format_version"] = 1
    for detector in old["detectors"].values():
        detector["models"] = [
            {
                "file": model["files"][0]["name"],
                "sha256": model["files"][0]["sha256"],
                **{key: model[key] for key in ("backend", "target", "precision", "weights_sha256")},
                "parity": {"peak": 1e-6, "probability": 2e-6, "slices": 30, "source": "phantom"},
            }
            for model in detector["models"]
        ]
    return old


def test_the_format_before_is_read(bundle: Path) -> None:
    new = read_bundle(bundle)
    path = bundle / "bundle.json"
    path.write_text(json.dumps(as_format_1(json.loads(path.read_text()))))
    old = read_bundle(bundle)
    assert old.variants == new.variants and old.preprocessing == new.preprocessing
    for (before, one), (after, two) in zip(old.models, new.models, strict=True):
        assert (one.files, one.weights_sha256, one.engine) == (two.files, two.weights_sha256, None)
        assert (before.calibration, before.prior) == (after.calibration, after.prior)
        assert one.parity and one.parity.reference == "pytorch" and one.parity.slices == 30
        assert (one.parity.peak, one.parity.probability) == (1e-6, 2e-6)
        assert one.parity.ms_per_slice is None and one.parity.metric is None
        assert read_model(bundle, one)
    write_manifest(bundle, old)
    assert json.loads(path.read_text())["format_version"] == 2 and read_bundle(bundle) == old


def test_every_field_of_the_format_before_is_needed_and_typed(bundle: Path) -> None:
    path = bundle / "bundle.json"
    original = as_format_1(json.loads(path.read_text()))
    paths = [one for one in every_path(original) if one[0] != "made_with"]
    assert len(paths) > 150
    for keys in paths:
        for change in ("remove", "replace"):
            fields = json.loads(json.dumps(original))
            inner = fields
            for key in keys[:-1]:
                inner = inner[key]
            if change == "remove":
                del inner[keys[-1]]
            else:
                inner[keys[-1]] = {"no": "such"} if not isinstance(inner[keys[-1]], dict) else 3
            path.write_text(json.dumps(fields))
            with pytest.raises(BundleError):
                read_bundle(bundle)
                pytest.fail(f"{change} {keys}")


def test_an_unknown_calibration_aim_is_refused(bundle: Path) -> None:
    change(bundle, lambda fields: fields.update(calibration_aim="beauty"))
    with pytest.raises(BundleError, match="calibration_aim 'beauty' is none of none, metric"):
        read_bundle(bundle)


@pytest.mark.parametrize("name", ["../evil.onnx", "a/b.onnx", "/etc/passwd", "..", ""])
def test_a_model_file_cannot_lie_elsewhere(bundle: Path, name: str) -> None:
    change(bundle, lambda f: f["detectors"]["spinal"]["models"][0]["files"][0].update(name=name))
    with pytest.raises(BundleError, match="no plain file name"):
        read_bundle(bundle)


def test_a_model_with_another_hash_is_refused(bundle: Path) -> None:
    model = read_bundle(bundle).detectors[0].models[0]
    assert len(read_model(bundle, model)) > 0
    path = bundle / model.files[0].name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"SHA-256 .* rebuild it with rsna-export"):
        read_model(bundle, model)
    path.unlink()
    with pytest.raises(BundleError, match="No such file"):
        read_model(bundle, model)


def test_only_unreferenced_models_are_removed(bundle: Path) -> None:
    kept = sorted(path.name for path in bundle.iterdir())
    (bundle / "spinal-onnxruntime-any-fp32-000000000000.onnx").write_bytes(b"old")
    mine = ["notes.txt", "spinal-fold0.pt", "spinal-fold0.json", "subarticular-notes.txt"]
    for name in mine:
        (bundle / name).write_text("mine")
    remove_unreferenced(bundle, read_bundle(bundle))
    assert sorted(path.name for path in bundle.iterdir()) == sorted([*kept, *mine])
