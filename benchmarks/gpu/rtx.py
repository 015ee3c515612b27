"""TensorRT-RTX and a GPU that it does not list: what it offers, builds and runs.

Compute capability 9.0 (H100) is not on its list. The project refuses to build for it; here the
library itself is asked, and an engine of its own choice of targets is tried on the GPU, past the
project's checks. That may end the process: it is a job of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from rsna_lumbar.benchmarks.gpu.jobs import Settings
from rsna_lumbar.benchmarks.gpu.plan import RTX
from rsna_lumbar.benchmarks.gpu.rows import OK, Notes, Row
from rsna_lumbar.export.formats import BuildOptions
from rsna_lumbar.export.formats.builder_process import Voice
from rsna_lumbar.export.formats.tensorrt import build, list_capabilities
from rsna_lumbar.export.formats.tensorrt_network import batch_profile, make_network
from rsna_lumbar.export.formats.tensorrt_watch import Watch
from rsna_lumbar.runtime.backends import Outputs, load_backend
from rsna_lumbar.runtime.backends.tensorrt_library import library_version, load_library
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import ANY_TARGET, Engine, Model, ModelFile
from rsna_lumbar.runtime.bundle.store import read_model
from rsna_lumbar.runtime.core.errors import ExportError, LumbarError
from rsna_lumbar.runtime.demo import demo_bundle
from rsna_lumbar.runtime.inference.compatibility import NO_GPU
from rsna_lumbar.runtime.system.machine import CPU, this_machine

NAME = "tensorrt-rtx"
OPTIONS = BuildOptions()
SEED = 3


def check_targets(notes: Notes, settings: Settings) -> None:
    """What it offers, and what it says to the GPU here."""
    trt = load_library(NAME)
    notes.begin("listing its capabilities")
    notes.add(Row(RTX, "builds for", OK, {"what": ", ".join(list_capabilities(trt))}))
    gpus = this_machine().gpus
    if not gpus:
        notes.add(Row(RTX, "the GPU here", NO_GPU))
        return
    here = gpus[0].compute_capability
    notes.begin(f"building for {here}")
    notes.add(_tried(f"rsna-export for {here}", lambda: _built_by_export(here)))
    for name, prepare in (("current", _current), ("its default", _default)):
        notes.begin(f"building for {name} targets, past our checks")
        notes.add(_tried(f"the library for {name}", partial(_plan, trt, prepare)))


def run_anyway(notes: Notes, settings: Settings, target: str) -> None:
    """Build by the library's own choice, and run it on the GPU here against the CPU."""
    trt = load_library(NAME)
    notes.begin(f"building for {target}")
    plan = _plan(trt, {"current": _current, "default": _default}[target])
    notes.begin("running it")
    here = this_machine().gpus[0].compute_capability
    engine = Engine(library_version(trt), (here,), 1, OPTIONS.best_batch, OPTIONS.largest_batch)
    model = Model((ModelFile("trial.plan", ""),), NAME, "trial", "fp32", "", engine, None)
    found = _answer(model, (plan,), "cuda:0")
    expected = _answer(*_float32(), CPU)
    difference = float(np.abs(found.probability - expected.probability).max())
    notes.add(Row(RTX, f"{target} engine, run here", OK, {"what": f"max diff {difference:.2g}"}))


def _tried(name: str, make: Callable[[], bytes]) -> Row:
    try:
        plan = make()
    except LumbarError as error:
        return Row(RTX, name, f"refused: {error}")
    return Row(RTX, name, OK, {"what": f"built, {len(plan)} bytes"})


def _built_by_export(capability: str) -> bytes:
    options = BuildOptions(compute_capabilities=(capability,))
    return build(NAME, _graph(), "fp32", options, lambda _: None).files[0].content


def _plan(trt: Any, prepare: Callable[[Any, Any], None]) -> bytes:
    """As export builds it, but for the targets.

    Raises:
        ExportError: the library made no plan; with what it said.
    """
    watch = Watch(trt, NAME, Voice(lambda _: None))
    builder = trt.Builder(watch.logger)
    network = make_network(trt, builder, watch.logger, _graph(), OPTIONS.largest_batch)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(batch_profile(builder, network, OPTIONS))
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    prepare(trt, config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"no plan: {watch.trouble()}")
    return bytes(plan)


def _current(trt: Any, config: Any) -> None:
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(trt.ComputeCapability.CURRENT, 0):
        raise ExportError("the library refuses ComputeCapability.CURRENT")


def _default(trt: Any, config: Any) -> None:
    """The library's own choice."""


def _graph() -> bytes:
    (graph,) = _float32()[1]
    return graph


def _float32() -> tuple[Model, tuple[bytes, ...]]:
    model = read_bundle(demo_bundle()).detectors[0].models[0]
    assert model.target == ANY_TARGET
    return model, read_model(demo_bundle(), model)


def _answer(model: Model, contents: tuple[bytes, ...], device: str) -> Outputs:
    detector = read_bundle(demo_bundle()).detectors[0]
    size_px = detector.size_px
    slices = np.random.default_rng(SEED).integers(0, 256, (4, size_px, size_px), np.uint8)
    backend = load_backend(model.backend)
    with backend.open_session(
        contents, model=model, detector=detector, device=device, threads=1
    ) as session:
        return session.run(slices, np.eye(4, dtype=bool))
