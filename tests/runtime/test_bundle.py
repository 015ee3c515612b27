"""The bundle reader refuses what it cannot trust, and says what mends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rsna_lumbar.runtime.bundle.manifest import read_bundle, write_manifest
from rsna_lumbar.runtime.bundle.records import WINDOW_SOURCES, WindowSource
from rsna_lumbar.runtime.bundle.store import read_model, remove_unreferenced
from rsna_lumbar.runtime.core.errors import BundleError
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, SUBARTICULAR


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


@pytest.mark.parametrize("version", [0, 1, 4, "3", None, True])
def test_other_format_versions_are_refused(bundle: Path, version: object) -> None:
    change(bundle, lambda fields: fields.update(format_version=version))
    with pytest.raises(BundleError) as refusal:
        read_bundle(bundle)
    assert f"has format version {version!r}, this program reads 2, 3; " in str(refusal.value)
    assert str(refusal.value).endswith(f"rebuild it with rsna-export {bundle} and its checkpoints")


def every_path(fields: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = fields.keys() if isinstance(fields, dict) else range(len(fields))
    found = []
    for key in keys:
        found.append((*path, key))
        if isinstance(fields[key], dict | list):
            found += every_path(fields[key], (*path, key))
    return found


def as_format_2(fields: dict[str, Any]) -> dict[str, Any]:
    """A manifest as rsna-export wrote it before: all groups, and nothing said of the window."""
    old = json.loads(json.dumps(fields))
    old["format_version"] = 2
    del old["window"]
    return dict(old)


def with_every_field(fields: dict[str, Any]) -> dict[str, Any]:
    """A manifest with all that format 3 may hold."""
    whole = json.loads(json.dumps(fields))
    whole["window"] = {"from": "asked"}
    for detector in whole["detectors"].values():
        detector.update(views=None, field=None)
    return dict(whole)


def may_be_missing(keys: tuple[Any, ...]) -> bool:
    """In format 3: the window, a group, and what of a group has one meaning only."""
    if keys[0] == "detectors":
        return len(keys) == 2 or (len(keys) == 3 and keys[2] in ("classes", "views", "field"))
    return keys == ("window",)


@pytest.mark.parametrize("form", [as_format_2, with_every_field])
def test_every_field_is_needed_and_typed(bundle: Path, form: Any) -> None:
    """Each field in turn removed, and replaced by another type: only BundleError may come out."""
    path = bundle / "bundle.json"
    original = form(json.loads(path.read_text()))
    paths = [one for one in every_path(original) if one[0] != "made_with"]
    assert len(paths) > 200
    for keys in paths:
        for change_to in ("remove", "replace"):
            fields = json.loads(json.dumps(original))
            inner = fields
            for key in keys[:-1]:
                inner = inner[key]
            if change_to == "remove":
                del inner[keys[-1]]
            else:
                inner[keys[-1]] = {"no": "such"} if not isinstance(inner[keys[-1]], dict) else 3
            path.write_text(json.dumps(fields))
            if change_to == "remove" and form is not as_format_2 and may_be_missing(keys):
                read_bundle(bundle)
                continue
            with pytest.raises(BundleError):
                read_bundle(bundle)
                pytest.fail(f"{change_to} {keys}")


def test_the_format_before_is_read(bundle: Path) -> None:
    new = read_bundle(bundle)
    path = bundle / "bundle.json"
    path.write_text(json.dumps(as_format_2(json.loads(path.read_text()))))
    old = read_bundle(bundle)
    assert old == new and old.window_from is None
    write_manifest(bundle, old)
    assert json.loads(path.read_text())["format_version"] == 3 and read_bundle(bundle) == old


def test_a_manifest_of_format_2_is_read_and_written_back_as_3(tmp_path: Path) -> None:
    """The real one of an earlier release: not a field but the version and the window changes."""
    source = Path(__file__).parents[1] / "data" / "bundle_format_2.json"
    (tmp_path / "bundle.json").write_bytes(source.read_bytes())
    write_manifest(tmp_path, read_bundle(tmp_path))
    before, after = (json.loads((one).read_text()) for one in (source, tmp_path / "bundle.json"))
    assert (before.pop("format_version"), after.pop("format_version")) == (2, 3)
    assert after.pop("window") is None and after == before


NEWER = "which needs a newer rsna-lumbar; update it"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda f: f["detectors"]["foraminal"].update(views={"temperature": 1, "margin": 3}),
            "views of foraminal has 'margin'",
        ),
        (lambda f: f["detectors"]["spinal"].update(field=[0.5, 0.5, 1, 1]), "has 'field'"),
        (lambda f: f["detectors"]["spinal"].update(field={}), "has 'field'"),
        (lambda f: f["detectors"]["spinal"]["classes"].reverse(), "spinal has other classes"),
        (lambda f: f["detectors"]["spinal"].update(classes=["left_mild"]), "other classes"),
        (lambda f: f["detectors"].update(sacral={}), "detectors has 'sacral'"),
        (lambda f: f.update(window={"from": "a dream"}), 'window is {"from": "a dream"}'),
        (lambda f: f.update(window={"from": "card", "per": "volume"}), "window is"),
        (lambda f: f.update(standing="as_the_patient"), "has 'standing'"),
        (lambda f: f["preprocessing"].update(clahe=True), "preprocessing has 'clahe'"),
        (
            lambda f: f["detectors"]["spinal"]["calibration"].update(by_view=1),
            "calibration of spinal has 'by_view'",
        ),
    ],
)
def test_what_only_a_later_version_honours_is_refused(
    bundle: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    change(bundle, edit)
    with pytest.raises(BundleError) as refusal:
        read_bundle(bundle)
    assert message in str(refusal.value) and str(refusal.value).endswith(NEWER)
    assert "\n" not in str(refusal.value)


def test_optional_fields_that_are_null_mean_nothing(bundle: Path) -> None:
    before = read_bundle(bundle)
    path = bundle / "bundle.json"
    fields = with_every_field(json.loads(path.read_text()))
    fields["window"] = fields["standing"] = None
    for detector in fields["detectors"].values():
        detector["classes"] = None
    path.write_text(json.dumps(fields))
    assert read_bundle(bundle) == before


@pytest.mark.parametrize("source", WINDOW_SOURCES)
def test_where_the_window_comes_from_is_kept(bundle: Path, source: WindowSource) -> None:
    write_manifest(bundle, replace(read_bundle(bundle), window_from=source))
    assert read_bundle(bundle).window_from == source


def test_a_bundle_may_lack_groups(bundle: Path) -> None:
    change(bundle, lambda fields: fields["detectors"].pop("foraminal"))
    found = read_bundle(bundle)
    assert found.groups == (SPINAL, SUBARTICULAR) and found.missing_groups == (FORAMINAL,)
    write_manifest(bundle, found)
    assert read_bundle(bundle) == found
    change(bundle, lambda fields: fields["detectors"].clear())
    with pytest.raises(BundleError, match="has no detector"):
        read_bundle(bundle)


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
