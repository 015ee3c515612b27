"""TensorRT-RTX and a GPU that it does not list: which GPUs it builds for, and what runs.

    python benchmarks/experiments/rtx_targets.py

Compute capability 9.0 (H100) is not on its list. The project refuses to build for it. Here the
library itself builds an engine for targets of its own choice, without the project's checks, and it
runs on the GPU. That may crash the process: each target is tried in a separate one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from experiment import footer

from rsna_lumbar.export.formats import BuildOptions
from rsna_lumbar.export.formats.builder_process import Voice
from rsna_lumbar.export.formats.tensorrt import build, list_capabilities
from rsna_lumbar.export.formats.tensorrt_network import batch_profile, make_network
from rsna_lumbar.export.formats.tensorrt_watch import Watch
from rsna_lumbar.runtime.backends import Outputs, SessionSettings, load_backend
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
LIMIT_S = 120.0


@click.command()
@click.option("--only", type=click.Choice((CURRENT, DEFAULT)), help="This target, in this process.")
def cli(only: str | None) -> None:
    """List the GPUs that it builds for, build for the GPU here, and run what was built."""
    gpus = this_machine().gpus
    if only and gpus:
        run_anyway(only, gpus[0].compute_capability)
        return
    click.echo(f"builds for: {', '.join(list_capabilities(load_library(NAME)))}")
    if not gpus:
        click.echo(NO_GPU)
        return
    here = gpus[0].compute_capability
    click.echo(f"rsna-export for {here}: {tried(partial(built_by_export, here))}")
    for target in (CURRENT, DEFAULT):
        words = (sys.executable, str(Path(__file__)), "--only", target)
        click.echo(f"the library for {target} targets: {run_apart(words, limit_s=LIMIT_S)}")
    click.echo(footer())


def run_apart(words: Sequence[str], *, limit_s: float) -> str:
    """The lines that a command prints, and how it ended if it did not finish."""
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=limit_s)
            ending = f"ended with {process.returncode}" if process.returncode else ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            ending = f"hung: stopped after {limit_s:g} s"
    return "; ".join(filter(None, [*said.split("\n"), ending]))


def run_anyway(target: str, here: str) -> None:
    """Build for a target, run the plan on the GPU here and compare it with the CPU."""
    trt = load_library(NAME)
    plan = make_plan(trt, target)
    click.echo(f"built, {len(plan)} bytes")
    engine = Engine(library_version(trt), (here,), 1, OPTIONS.best_batch, OPTIONS.largest_batch)
    model = Model((ModelFile("trial.plan", ""),), NAME, "trial", "fp32", "", engine, None)
    found = _outputs(model, (plan,), "cuda:0")
    expected = _outputs(*_float32(), CPU)
    click.echo(f"max diff {np.abs(found.probability - expected.probability).max():.2g}")


def tried(make: Callable[[], bytes]) -> str:
    """Make a plan; a refusal is a result."""
    try:
        return f"built, {len(make())} bytes"
    except LumbarError as error:
        return f"refused: {error}"


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
    with backend.open_session(contents, model, detector, SessionSettings(device, 1)) as session:
        return session.run(slices, np.eye(4, dtype=bool))


if __name__ == "__main__":
    cli()
