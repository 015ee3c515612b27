"""One export of an ensemble with one and three channels into every format and precision there is.

What this machine can run is run: the rows of ``rsna-run`` by each variant against those of the
float32 graph. Engines are built, and refused here in one line where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toys import write_clinical_study

from rsna_lumbar.export.bundling.build import Outcome, build_bundle
from rsna_lumbar.export.bundling.options import ExportOptions
from rsna_lumbar.export.formats import FORMATS, BuildOptions, load_format
from rsna_lumbar.export.verification.limits import LIMITS, Limits
from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.bundle.plan_header import read_plan_header
from rsna_lumbar.runtime.bundle.records import PRECISIONS, Variant
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import SPINAL, SUBARTICULAR
from rsna_lumbar.runtime.run.submission import submission_lines
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.runtime.system.gpus import cuda_devices

# importorskip would import OpenVINO with its telemetry.
for library in ("openvino", "tensorrt_rtx"):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: nothing was made", allow_module_level=True)

HERE = ("onnx", "openvino", "tensorrt-rtx")
SIZE_PX, CHECKPOINTS = 64, 3
# Networks with random weights are the worst case for few bits; trained ones: docs/engines.md.
NO_LIMITS = Limits(1, 1, 1, 1, 1)
# Largest difference of a probability of a row from float32's. Seen: 3e-6, 0.002, 0.03,
# and for int8 0.05 (OpenVINO) and 0.09 (ONNX Runtime).
ROUGHLY = {"fp32": 1e-4, "fp16": 0.006, "bf16": 0.07, "int8": 0.2}

Rows = dict[tuple[str, str], NDArray[np.float64]]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    for seed in range(2):
        write_clinical_study(folder, str(100 + seed), seed=seed, counts=(20, 1, 20))
    return folder


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, studies: Path, make_checkpoint: Any
) -> tuple[Path, Outcome]:
    """Two spinal detectors, with one and three channels, and one of another group.

    Of each every pair of format and precision.
    """
    weights: Mapping[str, list[Path]] = {
        "spinal": [make_checkpoint(SPINAL, "n", channels).path for channels in (1, 3)],
        "subarticular": [make_checkpoint(SUBARTICULAR, "n", 1).path],
    }
    folder = tmp_path_factory.mktemp("every") / "bundle"
    options = ExportOptions(
        formats=HERE,
        precisions=PRECISIONS,
        build=BuildOptions(best_batch=4, largest_batch=8),
        calibration_data=studies,
        verify_data=studies,
        limits={"fp32": LIMITS["fp32"], **dict.fromkeys(("fp16", "bf16", "int8"), NO_LIMITS)},
    )
    outcome = build_bundle(
        folder, weights, image_size_px=None, options=options, report=lambda _: None
    )
    return folder, outcome


def rows(folder: Path, studies: Path, variant: Variant, batch_size: int | None = None) -> Rows:
    with Scorer(
        folder, backend=variant.backend, precision=variant.precision, batch_size=batch_size
    ) as scorer:
        assert scorer.candidate.variant == variant
        return {
            (study.study_id, group.group.name): group.probability
            for study in scorer.score(find_studies(studies))
            for group in study.groups
        }


def test_every_pair_is_there_for_every_checkpoint(exported: tuple[Path, Outcome]) -> None:
    _, outcome = exported
    found = {(variant.backend, variant.precision) for variant in outcome.bundle.variants}
    backends = {"onnx": "onnxruntime"}
    assert not outcome.left_out
    assert found == {
        (backends.get(name, name), precision)
        for name in HERE
        for precision in load_format(name).PRECISIONS
    }
    for variant in outcome.bundle.variants:
        models = [model for _, model in outcome.bundle.models if model.variant == variant]
        assert len(models) == CHECKPOINTS == len({model.weights_sha256 for model in models})


def test_every_model_that_runs_here_gives_the_rows(
    exported: tuple[Path, Outcome], studies: Path
) -> None:
    folder, outcome = exported
    expected = rows(folder, studies, outcome.bundle.variants[0])
    compared = 0
    for variant in outcome.bundle.variants:
        if not all(m.parity for _, m in outcome.bundle.models if m.variant == variant):
            continue
        found = rows(folder, studies, variant)
        assert found.keys() == expected.keys()
        worst = max(np.abs(found[key] - expected[key]).max() for key in expected)
        assert worst <= ROUGHLY[variant.precision], variant
        compared += 1
    assert compared >= 5


def test_float32_is_float32_everywhere(exported: tuple[Path, Outcome]) -> None:
    """Against PyTorch, one and three channels, on ONNX Runtime and OpenVINO."""
    _, outcome = exported
    compared = [
        model.parity
        for _, model in outcome.bundle.models
        if model.precision == "fp32" and model.parity
    ]
    assert len(compared) >= 2 * CHECKPOINTS
    for parity in compared:
        assert parity.reference == "pytorch" and parity.slices >= 40
        assert parity.peak <= 1e-5 and parity.probability <= 1e-4 and parity.changed_rows == 0


def test_batch_sizes_change_only_the_rounding(
    exported: tuple[Path, Outcome], studies: Path
) -> None:
    folder, outcome = exported
    for variant in outcome.bundle.variants:
        if variant.precision != "fp32" or variant.backend.startswith("tensorrt"):
            continue
        expected = rows(folder, studies, variant)
        for batch_size in (1, 7, 64):
            found = rows(folder, studies, variant, batch_size)
            for key in expected:
                np.testing.assert_allclose(found[key], expected[key], rtol=0, atol=1e-6)


def test_workers_and_order_change_no_byte_of_any_precision(
    exported: tuple[Path, Outcome], studies: Path, tmp_path: Path
) -> None:
    folder, outcome = exported
    shuffled = sorted(studies.rglob("*.dcm"), reverse=True)
    for path in shuffled:  # another order of making, and so of listing
        target = tmp_path / path.relative_to(studies)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    compared = set()
    for variant in outcome.bundle.variants:
        if variant.backend.startswith("tensorrt"):
            continue
        if not all(m.parity for _, m in outcome.bundle.models if m.variant == variant):
            continue  # this CPU cannot run it
        with Scorer(folder, backend=variant.backend, precision=variant.precision) as scorer:
            texts = {
                "".join(map(submission_lines, scorer.score(find_studies(data), workers=workers)))
                for data, workers in ((studies, 0), (studies, 2), (tmp_path, 1))
            }
        assert len(texts) == 1, variant
        compared.add(variant.precision)
    assert {"fp32", "int8"} <= compared


def test_engines_are_built_without_a_gpu(exported: tuple[Path, Outcome]) -> None:
    """Network parsed, profile set, plan written, header read back, manifest complete."""
    folder, outcome = exported
    engines = [model for _, model in outcome.bundle.models if model.engine]
    assert len(engines) == 3 * CHECKPOINTS
    for model in engines:
        assert model.engine and model.backend == "tensorrt-rtx"
        (file,) = model.files
        header = read_plan_header((folder / file.name).read_bytes())
        assert header.library == model.backend and header.version == model.engine.version
        assert (model.engine.least_batch, model.engine.best_batch) == (1, 4)
        assert model.engine.largest_batch == 8 and model.target in file.name
        assert "8.9" in model.engine.compute_capabilities or cuda_devices()
    assert (folder / "build.log").stat().st_size > 0


@pytest.mark.skipif(bool(cuda_devices()), reason="there is a GPU; nothing is refused")
@pytest.mark.parametrize("device", ["auto", "cuda:0", "cpu"])
def test_without_a_gpu_engines_are_one_line(exported: tuple[Path, Outcome], device: str) -> None:
    with pytest.raises(UsageError) as caught:
        Scorer(exported[0], backend="tensorrt-rtx", device=device)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_the_table_of_formats_is_the_one_of_the_command() -> None:
    from rsna_lumbar.export import cli

    assert tuple(FORMATS) == cli.FORMATS and cli.PRECISIONS == PRECISIONS
    assert set(LIMITS) == set(PRECISIONS)
