"""Formats and precisions of a bundle: added, left out, unverified, verified again."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from machines import ENGINE, L4, machine, plan_of
from toys import write_clinical_study, write_toy_bundle

from rsna_lumbar.export.bundling import model_files
from rsna_lumbar.export.bundling.build import Outcome, extend_bundle, verify_bundle
from rsna_lumbar.export.bundling.options import ExportOptions
from rsna_lumbar.export.cli import main
from rsna_lumbar.export.formats import BACKEND_OF, BuildOptions, Built, BuiltFile
from rsna_lumbar.export.formats import onnx as onnx_format
from rsna_lumbar.export.graph import precisions
from rsna_lumbar.export.verification.limits import LIMITS, Limits
from rsna_lumbar.export.verification.report import table
from rsna_lumbar.runtime.bundle.manifest import read_bundle, write_manifest
from rsna_lumbar.runtime.bundle.records import Model, ModelFile, Variant
from rsna_lumbar.runtime.bundle.store import read_model
from rsna_lumbar.runtime.bundle.trust import trusted_engines
from rsna_lumbar.runtime.core.errors import BackendError, BundleError, UsageError, VerificationError
from rsna_lumbar.runtime.core.labels import GRADE_TITLES, LOCATIONS
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.system.machine import this_machine

HALF = Variant("onnxruntime", "any", "fp16")
ALMOST = 1 + 1e-3
STUDIES = ("100", "200")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    for seed, study in enumerate(STUDIES):
        write_clinical_study(root / "train_images", study, seed=seed, counts=(1, 2, 2))
    generator = np.random.default_rng(3)
    columns = {
        "_".join(location): [GRADE_TITLES[k] for k in generator.integers(0, 3, len(STUDIES))]
        for location in LOCATIONS
    }
    pd.DataFrame({"study_id": STUDIES, **columns}).to_csv(root / "train.csv", index=False)
    return root


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Calibrated toy detectors, two a group."""
    write_toy_bundle(tmp_path / "bundle", Calibration(0.8, (0.1, 0.0, -0.1), 1e-3), detectors=2)
    return tmp_path / "bundle"


def scaled(factor: float) -> Callable[..., bytes]:
    """A precision whose logits are off by a factor."""

    def graph_in(_: str, graph: bytes, **__: object) -> bytes:
        model = onnx.load_model_from_string(graph)
        for one in model.graph.initializer:
            if one.name == "slope":
                values = onnx.numpy_helper.to_array(one) * np.float32(factor)
                one.CopyFrom(onnx.numpy_helper.from_array(values, "slope"))
        return model.SerializeToString()

    return graph_in


@pytest.fixture
def almost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "graph_in", scaled(ALMOST))


def extend(bundle: Path, studies: Path, **options: Any) -> tuple[Outcome, str]:
    said: list[str] = []
    made = ExportOptions(("onnx",), ("fp16",), verify_data=studies, **options)
    return extend_bundle(bundle, options=made, report=said.append), "\n".join(said)


def verify(bundle: Path, studies: Path, *, trust: bool = False, **options: Any) -> Outcome:
    made = ExportOptions(verify_data=studies, **options)
    return verify_bundle(bundle, options=made, trust=trust, report=lambda _: None)


def untimed(models: tuple[Model, ...]) -> list[Model]:
    """Models without what is measured again each time."""
    return [
        replace(one, parity=replace(one.parity, hardware="", ms_per_slice=None))
        for one in models
        if one.parity
    ]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("almost")
def test_a_precision_is_added_to_a_bundle(bundle: Path, studies: Path) -> None:
    """To every detector of the ensembles; what was there and the calibration stay."""
    before = read_bundle(bundle)
    outcome, _ = extend(bundle, studies)
    after = read_bundle(bundle)
    assert after == outcome.bundle and not outcome.left_out
    assert after.variants == (*before.variants, HALF)
    for old, new in zip(before.detectors, after.detectors, strict=True):
        assert untimed(new.models[:2]) == untimed(old.models) and new.calibration == old.calibration
        assert [one.weights_sha256 for one in new.models[2:]] == [
            one.weights_sha256 for one in old.models
        ]
        for model in new.models[2:]:
            assert read_model(bundle, model) and model.parity
            assert model.parity.reference == "fp32 graph" and model.parity.source == "data"
            assert 1e-6 < model.parity.probability < 1e-2
            assert model.parity.rows == 2 * len(new.group.locations)
            assert model.parity.metric is None
    assert names(bundle) == {
        "bundle.json",
        *(file.name for _, model in after.models for file in model.files),
    }


@pytest.mark.usefixtures("almost")
def test_adding_again_replaces(bundle: Path, studies: Path, monkeypatch: Any) -> None:
    first, _ = extend(bundle, studies)
    monkeypatch.setattr(precisions, "graph_in", scaled(1.0))
    second, _ = extend(bundle, studies)
    assert second.bundle.variants == first.bundle.variants
    halves = [model for _, model in second.bundle.models if model.variant == HALF]
    assert len(halves) == 6 and all(m.parity and m.parity.probability < 1e-6 for m in halves)


@pytest.mark.usefixtures("almost")
def test_labels_give_the_metric_before_and_after(bundle: Path, studies: Path) -> None:
    outcome, _ = extend(bundle, studies, verify_labels=studies / "train.csv")
    metrics = {m.parity.metric for _, m in outcome.bundle.models if m.variant == HALF and m.parity}
    assert len(metrics) == 1
    before, after = next(iter(metrics)) or (0, 0)
    assert before > 0 and after > 0 and before != after and abs(after / before - 1) < 0.01


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (Limits(1, 1e-9, 1, 1, 1), "probabilities by"),
        (Limits(1, 1, 1e-9, 1, 1), "99.9 % of them by up to"),
        (Limits(1e-9, 1, 1, 1, 1), "peaks by"),
        (Limits(1, 1, 1, 1, -0.5), "official metric"),
        (Limits(1, 1, 1, 0.01, 1), "of 100 rows changed (limit 1.0%)"),
    ],
)
def test_over_a_limit_no_model_of_the_variant_gets_in(
    bundle: Path,
    studies: Path,
    limit: Limits,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precisions, "graph_in", scaled(2.0 if limit.changed < 1 else ALMOST))
    before, files = read_bundle(bundle), names(bundle)
    outcome, said = extend(
        bundle,
        studies,
        limits={**LIMITS, "fp16": limit},
        verify_labels=studies / "train.csv",
    )
    assert reason in outcome.left_out[HALF] and f"{HALF} is excluded" in said
    after = read_bundle(bundle)
    assert after.variants == before.variants
    for old, new in zip(before.detectors, after.detectors, strict=True):
        assert untimed(new.models) == untimed(old.models)
    assert names(bundle) == files


def test_a_last_group_over_the_limit_takes_the_others_out(
    bundle: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the third group's graphs are off; there are two detectors a group."""
    calls: list[str] = []

    def graph_in(precision: str, graph: bytes, **_: object) -> bytes:
        calls.append(precision)
        return scaled(3.0 if len(calls) > 2 * 2 else 1.0)(precision, graph)

    monkeypatch.setattr(precisions, "graph_in", graph_in)
    outcome, _ = extend(bundle, studies)
    assert list(outcome.left_out) == [HALF]
    assert HALF not in {model.variant for _, model in read_bundle(bundle).models}


def test_a_graph_that_a_runtime_refuses_is_left_out(
    bundle: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "graph_in", lambda *_, **__: b"no model")
    outcome, _ = extend(bundle, studies)
    assert "ONNX Runtime refuses the model" in outcome.left_out[HALF]


def with_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the format onnx build what calls itself an engine for an L4."""

    def build(name: str, graph: bytes, precision: str, options: BuildOptions, _: object) -> Built:
        assert options.log
        options.log.write_text("the builder's own words")
        return Built((BuiltFile(".plan", graph),), "sm89", ENGINE)

    monkeypatch.setattr(onnx_format, "build", build)
    monkeypatch.setitem(BACKEND_OF, "onnx", "tensorrt")


@pytest.mark.usefixtures("almost")
def test_what_cannot_run_here_is_unverified(
    bundle: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_engines(monkeypatch)
    outcome, said = extend(bundle, studies)
    engines = [model for _, model in outcome.bundle.models if model.engine]
    assert len(engines) == 6 and all(model.parity is None for model in engines)
    assert "tensorrt fp16 sm89 was not run here: " in said
    assert '"parity": "unverified"' in (bundle / "bundle.json").read_text()
    assert (bundle / "build.log").read_text() == "the builder's own words"
    assert trusted_engines() >= {file.sha256 for one in engines for file in one.files}
    text, intact = table(bundle, outcome.bundle)
    assert not intact and "is no engine" in text  # the toy's plan is an ONNX file
    assert text.count("unverified") == 6


@pytest.mark.usefixtures("almost")
def test_verify_completes_what_was_unverified(
    bundle: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves what PyTorch said of the float32 graphs; only where and how fast is new."""
    extend(bundle, studies)
    made = read_bundle(bundle)
    unverified = replace(
        made,
        detectors=tuple(
            replace(
                one,
                models=tuple(
                    replace(m, parity=None) if m.variant == HALF else m for m in one.models
                ),
            )
            for one in made.detectors
        ),
    )
    write_manifest(bundle, unverified)
    outcome = verify(bundle, studies)
    assert read_bundle(bundle) == outcome.bundle and outcome.bundle.variants == made.variants
    for (_, before), (_, after) in zip(made.models, outcome.bundle.models, strict=True):
        assert after.parity and before.parity
        assert after.files == before.files
        assert after.parity.reference == before.parity.reference
        assert after.parity.probability == before.parity.probability
        assert after.parity.hardware != "none" and after.parity.ms_per_slice


@pytest.mark.usefixtures("almost")
def test_verify_throws_out_what_is_over_the_limits(bundle: Path, studies: Path) -> None:
    extend(bundle, studies)
    outcome = verify(bundle, studies, limits={**LIMITS, "fp16": Limits(1, 1e-9, 1, 1, 1)})
    assert "probabilities by" in outcome.left_out[HALF]
    assert [str(one) for one in read_bundle(bundle).variants] == ["onnxruntime fp32"]
    assert len(names(bundle)) == 1 + 3  # the toys of an ensemble share their file


def test_verify_never_throws_the_float32_graphs_out(
    bundle: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (bundle / "bundle.json").read_bytes()
    limits = {**LIMITS, "fp32": Limits(-1, -1, -1, 1, 1)}
    with pytest.raises(VerificationError, match="peaks by"):
        verify(bundle, studies, limits=limits)
    assert (bundle / "bundle.json").read_bytes() == before


def test_verify_needs_neither_torch_nor_onnx(
    bundle: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "onnx", "ultralytics"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit) as ended:
        main(["--verify", str(bundle), f"--verify-data={studies}"])
    assert ended.value.code == 0


def test_a_bundle_that_changes_meanwhile_is_left_alone(
    bundle: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as by rsna-train calibrate, whose work would be lost."""

    def graph_in(_: str, graph: bytes, **__: object) -> bytes:
        now = read_bundle(bundle)
        write_manifest(bundle, replace(now, calibration_aim="metric"))
        return graph

    monkeypatch.setattr(precisions, "graph_in", graph_in)
    with pytest.raises(BundleError, match="was changed meanwhile"):
        extend(bundle, studies)
    assert read_bundle(bundle).calibration_aim == "metric"


def test_a_bundle_without_float32_graphs_cannot_be_extended(bundle: Path, studies: Path) -> None:
    now = read_bundle(bundle)
    detectors = tuple(
        replace(one, models=tuple(replace(m, precision="int8") for m in one.models))
        for one in now.detectors
    )
    write_manifest(bundle, replace(now, detectors=detectors))
    with pytest.raises(BundleError, match="lacks a verified float32 graph of spinal"):
        extend(bundle, studies)


def test_an_unverified_float32_graph_is_no_reference(bundle: Path, studies: Path) -> None:
    now = read_bundle(bundle)
    detectors = tuple(
        replace(one, models=tuple(replace(m, parity=None) for m in one.models))
        for one in now.detectors
    )
    write_manifest(bundle, replace(now, detectors=detectors))
    for work in (extend, verify):
        with pytest.raises(BundleError, match="lacks a verified float32 graph of spinal"):
            work(bundle, studies)


@pytest.mark.usefixtures("almost")
def test_adding_times_what_is_there_again(bundle: Path, studies: Path) -> None:
    """Times of different runs cannot be compared, and auto ranks by them."""
    before = {m.parity.ms_per_slice for _, m in read_bundle(bundle).models if m.parity}
    outcome, _ = extend(bundle, studies)
    after = [m.parity for _, m in outcome.bundle.models if m.parity]
    assert before == {1.0} and all(parity.ms_per_slice != 1.0 for parity in after)
    assert {parity.hardware for parity in after} == {this_machine().processor}


def foreign_engines(bundle: Path) -> set[str]:
    """Give a bundle engines from elsewhere, which say that they were verified; their hashes."""
    now = read_bundle(bundle)
    content = plan_of(ENGINE.version)
    (bundle / "foreign.plan").write_bytes(content)
    file = ModelFile("foreign.plan", hashlib.sha256(content).hexdigest())
    changes = {"files": (file,), "backend": "tensorrt", "target": "sm89", "precision": "fp16"}
    detectors = tuple(
        replace(
            one, models=(*one.models, *(replace(m, **changes, engine=ENGINE) for m in one.models))
        )
        for one in now.detectors
    )
    write_manifest(bundle, replace(now, detectors=detectors))
    return {file.sha256}


@pytest.mark.parametrize("work", [extend, verify])
@pytest.mark.usefixtures("almost")
def test_engines_from_elsewhere_do_not_become_trusted(
    bundle: Path, studies: Path, work: Callable[..., object]
) -> None:
    hashes = foreign_engines(bundle)
    before = read_bundle(bundle)
    work(bundle, studies)
    assert not hashes & trusted_engines()
    engines = [model for _, model in read_bundle(bundle).models if model.engine]
    assert engines == [model for _, model in before.models if model.engine]


def test_an_engine_that_fails_while_it_runs_is_left_out(
    bundle: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine says that it can run it; the backend then cannot."""

    class Broken:
        device = "cuda:0"

        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None: ...

        def run(self, *_: object) -> None:
            raise BackendError("out of luck")

    with_engines(monkeypatch)
    monkeypatch.setattr(precisions, "graph_in", scaled(1.0))
    monkeypatch.setattr(model_files, "this_machine", lambda: machine(L4))
    really = model_files.open_model

    def open_model(folder: Path, model: Model, *rest: Any) -> Any:
        return Broken() if model.engine else really(folder, model, *rest)

    monkeypatch.setattr(model_files, "open_model", open_model)
    monkeypatch.setattr(model_files, "default_batch_size", lambda *_: 2)
    outcome, _ = extend(bundle, studies)
    assert "out of luck" in outcome.left_out[Variant("tensorrt", "sm89", "fp16")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "not a bundle yet: name a checkpoint"),
        (["--precision", "bf16"], "--format onnx fits nothing else"),
        (["--format", "openvino", "--precision", "fp16", "--precision", "bf16"], "fp16"),
        (["--precision", "int8"], "give --calibration-data DIR"),
        (["--precision", "fp16", "--limit", "x"], "is not PRECISION:NAME=VALUE"),
        (["--spinal", "a.pt", "--verify"], "--spinal cannot be used with --verify"),
        (["--verify", "--precision", "fp16"], "--precision cannot be used with --verify"),
        (["--inspect", "--verify"], "--verify cannot be used with --inspect"),
        (["--precision", "fp16", "--image-size", "64"], "--image-size cannot be used without"),
        (["--precision", "fp16", "--trust"], "--trust cannot be used without checkpoints"),
        ([], "name another --format or --precision to add"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    bundle: Path,
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "none" if message.startswith("not a bundle yet") else bundle
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(SystemExit) as ended:
        main([str(folder), *words])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and message in said and "Traceback" not in said
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


@pytest.mark.usefixtures("almost")
def test_a_model_left_out_is_exit_code_3(
    bundle: Path, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(bundle), "--precision=fp16", f"--verify-data={studies}"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--limit=fp16:probability=1e-9"])
    captured = capsys.readouterr()
    assert ended.value.code == 3 and "onnxruntime fp16 is excluded: " in captured.err
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0 and capsys.readouterr().out.count("fp32 graph, ") == 6


def test_usage_errors_leave_no_folder_behind(tmp_path: Path, studies: Path) -> None:
    with pytest.raises((UsageError, BundleError)):
        extend(tmp_path / "none", studies)
    assert not (tmp_path / "none").exists()
    shutil.rmtree(tmp_path)
