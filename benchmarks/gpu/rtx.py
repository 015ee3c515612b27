"""TensorRT-RTX and a GPU that it does not list: which GPUs it builds for, and what runs.

Compute capability 9.0 (H100) is not on its list. The project refuses to build for it. Here the
library itself builds an engine for targets of its own choice, without the project's checks, and it
runs on the GPU. That may crash the process: it is a separate job.
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
from rsna_lumbar.runtime.bundle.records import Engine, Model, ModelFile
from rsna_lumbar.runtime.bundle.store import read_model
from rsna_lumbar.runtime.core.errors import ExportError, LumbarError
from rsna_lumbar.runtime.demo import demo_bundle
from rsna_lumbar.runtime.inference.compatibility import NO_GPU
from rsna_lumbar.runtime.system.machine import CPU, this_machine

NAME = "tensorrt-rtx"
OPTIONS = BuildOptions()
SEED = 3
CURRENT, DEFAULT = "current", "default"  # targets: the GPU here, and the library's own choice


def check_targets(notes: Notes, settings: Settings) -> None:
    """List the GPUs that it builds for, and build for the GPU here."""
    trt = load_library(NAME)
    notes.begin("listing its capabilities")
    notes.add(Row(RTX, "builds for", OK, {"what": ", ".join(list_capabilities(trt))}))
    gpus = this_machine().gpus
    if not gpus:
        notes.add(Row(RTX, "the GPU here", NO_GPU))
        return
    here = gpus[0].compute_capability
    notes.begin(f"building for {here}")
    notes.add(tried(f"rsna-export for {here}", partial(built_by_export, here)))
    for target in (CURRENT, DEFAULT):
        notes.begin(f"building for {target} targets, without our checks")
        notes.add(tried(f"the library for {target} targets", partial(make_plan, trt, target)))


def run_anyway(notes: Notes, settings: Settings, target: str) -> None:
    """Build for a target, run the plan on the GPU here and compare it with the CPU."""
    trt = load_library(NAME)
    notes.begin(f"building for {target}")
    plan = make_plan(trt, target)
    notes.begin("running it")
    here = this_machine().gpus[0].compute_capability
    engine = Engine(library_version(trt), (here,), 1, OPTIONS.best_batch, OPTIONS.largest_batch)
    model = Model((ModelFile("trial.plan", ""),), NAME, "trial", "fp32", "", engine, None)
    found = _outputs(model, (plan,), "cuda:0")
    expected = _outputs(*_float32(), CPU)
    difference = float(np.abs(found.probability - expected.probability).max())
    notes.add(Row(RTX, f"{target} engine, run here", OK, {"what": f"max diff {difference:.2g}"}))


def tried(name: str, make: Callable[[], bytes]) -> Row:
    """Make a plan; a refusal is a row."""
    try:
        plan = make()
    except LumbarError as error:
        return Row(RTX, name, f"refused: {error}")
    return Row(RTX, name, OK, {"what": f"built, {len(plan)} bytes"})


def built_by_export(capability: str) -> bytes:
    """The plan that rsna-export would build for a compute capability."""
    (graph,) = _float32()[1]
    options = BuildOptions(compute_capabilities=(capability,))
    return build(NAME, graph, "fp32", options, lambda _: None).files[0].content


def make_plan(trt: Any, target: str) -> bytes:
    """Build as export does, but for CURRENT or DEFAULT targets.

    Raises:
        ExportError: the library made no plan; with its message.
    """
    (graph,) = _float32()[1]
    watch = Watch(trt, NAME, Voice(lambda _: None))
    builder = trt.Builder(watch.logger)
    network = make_network(trt, builder, watch.logger, graph, OPTIONS.largest_batch)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(batch_profile(builder, network, OPTIONS))
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if target == CURRENT:
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(trt.ComputeCapability.CURRENT, 0):
            raise ExportError("the library refuses ComputeCapability.CURRENT")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"no plan: {watch.trouble()}")
    return bytes(plan)


def _float32() -> tuple[Model, tuple[bytes, ...]]:
    model = read_bundle(demo_bundle()).detectors[0].models[0]
    return model, read_model(demo_bundle(), model)


def _outputs(model: Model, contents: tuple[bytes, ...], device: str) -> Outputs:
    detector = read_bundle(demo_bundle()).detectors[0]
    size_px = detector.size_px
    slices = np.random.default_rng(SEED).integers(0, 256, (4, size_px, size_px), np.uint8)
    backend = load_backend(model.backend)
    with backend.open_session(
        contents, model=model, detector=detector, device=device, threads=1
    ) as session:
        return session.run(slices, np.eye(4, dtype=bool))
