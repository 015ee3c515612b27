"""What ``auto`` takes and says, and what is refused."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import pytest
from machines import H100, L4, PROCESSOR, engine, machine, portable
from toys import PRIOR_ROW, SIZE_PX

from rsna_lumbar.runtime.bundle.records import Bundle, Detector, Model
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import GROUPS
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.inference.selection import Candidate, Choice, Wanted, choose
from rsna_lumbar.runtime.system.machine import Machine

FAST = portable("openvino", "bf16", ms=0.5)
SLOW = portable("openvino", "fp32", ms=2.0)


def bundle(*models: Model) -> Bundle:
    """These models for each group."""
    detectors = tuple(
        Detector(group, SIZE_PX, Calibration(), (PRIOR_ROW,) * len(group.locations), "mean", models)
        for group in GROUPS
    )
    return Bundle(detectors, Preprocessing(), "none", {})


def chosen(
    of: Bundle,
    here: Machine,
    wanted: Wanted | None = None,
    trusted: Container[str] | None = None,
) -> tuple[Choice, list[str]]:
    choice = choose(of, here, wanted or Wanted(), trusted)
    return choice, [f"{one.variant} {one.device}" for one in choice.candidates]


def why(of: Bundle, here: Machine, trusted: Container[str] | None = None) -> str:
    choice, _ = chosen(of, here, trusted=trusted)
    return choice.why(choice.candidates[0])


def test_the_fastest_measured_here_comes_first() -> None:
    of = bundle(portable(), SLOW, FAST)
    _, names = chosen(of, machine())
    assert names == ["openvino bf16 cpu", "onnxruntime fp32 cpu", "openvino fp32 cpu"]
    assert why(of, machine()) == "1.5 ms a slice, onnxruntime fp32 on cpu 3, openvino fp32 on cpu 6"


def test_measured_here_comes_before_measured_elsewhere() -> None:
    elsewhere = portable("openvino", "bf16", hardware="another", ms=0.1)
    of = bundle(portable(), elsewhere)
    assert chosen(of, machine())[1][0] == "onnxruntime fp32 cpu"
    alone = bundle(replace(portable(), parity=replace(portable().parity, hardware="x")), elsewhere)  # type: ignore[type-var]
    assert "0.3 ms a slice on another" in why(alone, machine())


def test_a_gpu_comes_before_the_cpu_however_it_was_measured() -> None:
    choice, names = chosen(bundle(portable(), FAST, engine()), machine(L4))
    assert names == [
        "tensorrt fp16 sm89 cuda:0",
        "onnxruntime fp32 cuda:0",
        "openvino bf16 cpu",
        "onnxruntime fp32 cpu",
    ]
    assert choice.candidates[1].ms_per_slice is None, "the CPU's speed says nothing of a GPU's"


def test_lower_precisions_run_only_where_they_were_verified() -> None:
    """float32 is float32 on a GPU; what int8 does there nobody has seen."""
    of = bundle(portable(), portable("onnxruntime", "int8", ms=0.1))
    names = chosen(of, machine(L4))[1]
    assert names == ["onnxruntime fp32 cuda:0", "onnxruntime int8 cpu", "onnxruntime fp32 cpu"]
    with pytest.raises(UsageError, match="verified on cpu only"):
        chosen(of, machine(L4), Wanted(precision="int8", device="cuda:0"))


def test_nothing_is_said_where_there_was_no_choice() -> None:
    assert why(bundle(portable()), machine()) == ""


def test_what_is_left_out_is_said() -> None:
    of = bundle(portable(), engine(), replace(FAST, parity=None))
    said = why(of, machine(H100))
    assert "not tensorrt fp16 sm89 (built for compute capability 8.9; here is 9.0" in said
    assert "openvino bf16 (unverified: rsna-export --verify BUNDLE" in said


def test_unverified_models_are_never_taken() -> None:
    of = bundle(portable(), replace(FAST, parity=None))
    assert chosen(of, machine())[1] == ["onnxruntime fp32 cpu"]
    with pytest.raises(UsageError, match=r"openvino bf16 \(unverified"):
        chosen(of, machine(), Wanted(backend="openvino"))


def test_engines_from_elsewhere_are_not_taken() -> None:
    of = bundle(portable(), engine())
    assert chosen(of, machine(L4), trusted=frozenset())[1][0] == "onnxruntime fp32 cuda:0"
    assert chosen(of, machine(L4), trusted=None)[1][0] == "tensorrt fp16 sm89 cuda:0"


def test_a_variant_that_is_not_whole_is_none() -> None:
    of = bundle(portable(), FAST)
    spinal, *rest = of.detectors
    of = replace(of, detectors=(replace(spinal, models=(portable(),)), *rest))
    assert chosen(of, machine())[1] == ["onnxruntime fp32 cpu"]


def test_every_detector_of_an_ensemble_counts() -> None:
    second = replace(FAST, weights_sha256=64 * "2")
    other = replace(portable(), weights_sha256=64 * "2")
    assert chosen(bundle(portable(), other, FAST), machine())[1] == ["onnxruntime fp32 cpu"]
    whole = bundle(portable(), other, FAST, second)
    choice, names = chosen(whole, machine())
    assert names[0] == "openvino bf16 cpu"
    assert choice.candidates[0] == Candidate(
        FAST.variant, "cpu", 3.0, PROCESSOR, measured_here=True
    )


def test_a_variant_that_was_measured_in_part_was_not_measured() -> None:
    """As one of format 1, whose manifest holds no times: the sum would be too small."""
    second = {"weights_sha256": 64 * "2"}
    of = bundle(
        portable(ms=0.5),
        replace(portable(ms=None), **second),
        portable("openvino", ms=0.6),
        replace(portable("openvino", ms=0.6), **second),
    )
    choice, names = chosen(of, machine())
    assert names == ["openvino fp32 cpu", "onnxruntime fp32 cpu"]
    assert choice.candidates[1].ms_per_slice is None
    assert "onnxruntime fp32 on cpu unmeasured" in choice.why(choice.candidates[0])


@pytest.mark.parametrize(
    ("wanted", "here", "message"),
    [
        (Wanted(backend="tensorflow"), machine(), "no backend 'tensorflow'; there is auto, onnx"),
        (Wanted(precision="fp8"), machine(), "no precision 'fp8'; there is auto, fp32"),
        (Wanted(backend="tensorrt-rtx"), machine(L4), "the bundle has no model for tensorrt-rtx"),
        (Wanted(backend="tensorrt"), machine(), r"tensorrt fp16 sm89 \(no NVIDIA GPU found\)"),
        (Wanted(device="cuda:0"), machine(), "cuda:0 is not there: 0 NVIDIA GPUs found"),
        (Wanted(backend="openvino", device="cuda:0"), machine(L4), "runs on the CPU only"),
        (Wanted(backend="tensorrt", batch_size=65), machine(L4), "change --batch-size"),
    ],
)
def test_what_cannot_be_had_is_one_line(wanted: Wanted, here: Machine, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        chosen(bundle(portable(), FAST, engine()), here, wanted)
    assert "\n" not in str(caught.value)
