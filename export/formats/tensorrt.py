"""Serialized engines of TensorRT (10 and 11) and of TensorRT-RTX.

    score graph -> network, strongly typed -> plan, whose header is read back

The graph sets the precision: float32 or float16 by its types, int8 by its Q/DQ pairs (symmetric,
with float biases). TF32 is switched off; with it, float32 would have 10 bits of mantissa.

TensorRT builds by timing kernels on the GPU of this machine, and for that GPU only. TensorRT-RTX
compiles on the machine that runs the plan, so it builds without a GPU, and for several at once.

The library is native code that may crash or hang, so it builds in a separate process.

A plan contains nothing of ours: what the runtime must know of it is in the manifest.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from rsna_lumbar.export.formats import BuildOptions, Built, BuiltFile, Report
from rsna_lumbar.export.formats.builder_process import Voice, build_apart
from rsna_lumbar.export.formats.tensorrt_network import batch_profile, make_network
from rsna_lumbar.export.formats.tensorrt_watch import Watch
from rsna_lumbar.runtime.backends.tensorrt_library import (
    library_version,
    load_library,
    require_installed,
)
from rsna_lumbar.runtime.bundle.plan_header import PlanHeaderError, read_plan_header
from rsna_lumbar.runtime.bundle.records import Engine
from rsna_lumbar.runtime.core.errors import BuildError, ExportError, UsageError
from rsna_lumbar.runtime.system.atomic_files import atomic_file
from rsna_lumbar.runtime.system.gpus import cuda_devices

PRECISIONS = ("fp32", "fp16", "int8")
INT8_SCHEME = "S8S8"
SUFFIX = ".plan"
TARGET = re.compile(r"SM([0-9]+)([0-9])")  # names of trt.ComputeCapability
# Built for only on request: TensorRT-RTX itself omits Turing from plans for several GPUs, because
# it may slow down the others.
ONLY_IF_ASKED = ("7.5",)

Capabilities = tuple[str, ...]  # compute capabilities such as "8.9", in rising order


def require(name: str, options: BuildOptions) -> None:
    """Check, before any work, that this machine can build.

    Raises:
        UsageError: the library or the GPU that it needs is missing, or an option cannot be met.
    """
    MAKERS[name].targets(name, options.compute_capabilities)


def build(name: str, graph: bytes, precision: str, options: BuildOptions, report: Report) -> Built:
    """Build a plan in a separate process, from a score graph that is already in its precision.

    The library is never loaded into this process.

    Raises:
        UsageError: as :func:`require`.
        BuildError: TensorRT rejects the graph, crashed, was killed, or hangs.
    """
    targets = MAKERS[name].targets(name, options.compute_capabilities)
    options = replace(options, compute_capabilities=targets)
    work = partial(build_here, name=name, precision=precision, options=options)
    title = f"{name} {precision}"
    try:
        return build_apart(work, graph, name=title, log=options.log, report=report)
    except ExportError as error:
        raise BuildError(str(error), target_name(targets)) from error


def build_here(
    graph: bytes, voice: Voice, *, name: str, precision: str, options: BuildOptions
) -> Built:
    """Build a plan in this process for the compute capabilities of ``options``, at least one.

    The library's messages go to standard error.

    Raises:
        UsageError: the library cannot be loaded.
        ExportError: TensorRT rejects the graph.
    """
    trt = load_library(name)
    watch = Watch(trt, f"{name} {precision}", voice, sys.stderr)
    plan = _plan(trt, graph, MAKERS[name], options, watch, voice.say)
    engine = Engine(
        version=library_version(trt),
        compute_capabilities=options.compute_capabilities,
        least_batch=1,
        best_batch=options.best_batch,
        largest_batch=options.largest_batch,
    )
    _require_header(plan, name, engine)
    return Built((BuiltFile(SUFFIX, plan),), target_name(options.compute_capabilities), engine)


def target_name(capabilities: Capabilities) -> str:
    """The GPUs that a plan is built for, as in the names of files: ``sm80.sm89``."""
    return ".".join(f"sm{one.replace('.', '')}" for one in capabilities)


def _plan(
    trt: Any, graph: bytes, maker: Maker, options: BuildOptions, watch: Watch, report: Report
) -> bytes:
    builder = trt.Builder(watch.logger)
    if builder is None:
        raise ExportError(f"TensorRT made no builder: {watch.trouble()}")
    network = make_network(trt, builder, watch.logger, graph, options.largest_batch)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(batch_profile(builder, network, options))
    config.progress_monitor = watch.monitor
    with maker.settings(trt, config, options, report):
        plan = builder.build_serialized_network(network, config)
    watch.raise_failure()
    if plan is None:
        raise ExportError(f"TensorRT cannot build the engine: {watch.trouble()}")
    return bytes(plan)


def _require_header(plan: bytes, name: str, engine: Engine) -> None:
    """The runtime will rely on the header, so it must agree with the builder."""
    try:
        header = read_plan_header(plan)
    except PlanHeaderError as error:
        raise ExportError(f"{name} made a plan that this version cannot read: {error}") from error
    if (header.library, header.version) != (name, engine.version):
        raise ExportError(
            f"{name} {engine.version} made a plan whose header says {header.library} "
            f"{header.version}; report this with both versions"
        )


# TensorRT


def gpu_here(name: str, asked: Sequence[str]) -> Capabilities:
    """The only target: the first GPU of this machine.

    Raises:
        UsageError: there is no GPU, another one was requested, or TensorRT is not installed.
    """
    if not cuda_devices():
        raise UsageError(
            "tensorrt builds engines on the GPU that runs them, and no NVIDIA GPU was found; use "
            "--format tensorrt-rtx, which needs none, or run rsna-export on the machine with it"
        )
    gpu = cuda_devices()[0]
    if tuple(asked) not in ((), (gpu.compute_capability,)):
        raise UsageError(
            f"tensorrt builds for the GPU here ({gpu.name}, compute capability "
            f"{gpu.compute_capability}), not for {', '.join(asked)}; run rsna-export on that GPU"
        )
    require_installed(name)
    return (gpu.compute_capability,)


@contextmanager
def timing_cache(trt: Any, config: Any, options: BuildOptions, report: Report) -> Iterator[None]:
    """Load the timings of earlier builds; save them after the build, even if it failed.

    Built for the GPU here; hardware compatibility stays at its default, none.
    """
    path = options.timing_cache
    if path is None:
        yield
        return
    stored = b""
    try:
        stored = path.read_bytes() if path.exists() else b""
    except OSError as error:
        report(f"{path} cannot be read ({error.strerror}): kernels are timed again")
    if not _attach_timings(config, stored):
        report(f"{path} is of another TensorRT or GPU, or damaged: kernels are timed again")
        _attach_timings(config, b"")
    try:
        yield
    finally:
        try:
            with atomic_file(path) as stream:
                stream.write(bytes(config.get_timing_cache().serialize()))
        except OSError as error:  # the engine is worth more than its timings
            report(f"{path} cannot be written ({error.strerror}): the next build times again")


def _attach_timings(config: Any, stored: bytes) -> bool:
    cache = config.create_timing_cache(stored)
    return cache is not None and bool(config.set_timing_cache(cache, ignore_mismatch=False))


# TensorRT-RTX


def listed_gpus(name: str, asked: Sequence[str]) -> Capabilities:
    """The requested targets; without a request the GPUs here, or else all that the library lists.

    Raises:
        UsageError: one is not listed, or the library is not installed or cannot be loaded.
        ExportError: the library crashed while it was loaded, or hangs.
    """
    require_installed(name)
    listed = _listed_apart(name)
    here = tuple(dict.fromkeys(gpu.compute_capability for gpu in cuda_devices()))
    chosen = tuple(asked) or here or tuple(one for one in listed if one not in ONLY_IF_ASKED)
    unknown = [one for one in chosen if one not in listed]
    if unknown:
        raise UsageError(
            f"tensorrt-rtx does not build for compute capability {', '.join(unknown)}; there is "
            f"{', '.join(listed)}; for others use --format tensorrt on that GPU"
        )
    return tuple(one for one in listed if one in chosen)


@cache
def _listed_apart(name: str) -> Capabilities:
    """What a library lists, asked in a separate process."""
    work = partial(_list_here, name=name)
    built = build_apart(work, b"", name=name, log=None, report=lambda _: None)
    return tuple(built.target.split())


def _list_here(graph: bytes, voice: Voice, *, name: str) -> Built:
    """The list as the target of a build without files."""
    return Built((), " ".join(list_capabilities(load_library(name))), None)


def list_capabilities(trt: Any) -> dict[str, Any]:
    """Capabilities such as "8.9" that TensorRT-RTX lists, in rising order -> its names for them."""
    found = {
        (int(match[1]), int(match[2])): member
        for name, member in trt.ComputeCapability.__members__.items()
        if (match := TARGET.fullmatch(name))
    }
    return {f"{major}.{minor}": found[major, minor] for major, minor in sorted(found)}


@contextmanager
def listed_targets(trt: Any, config: Any, options: BuildOptions, report: Report) -> Iterator[None]:
    """Build for the requested capabilities.

    CUDA graphs of TensorRT-RTX need all memory to come from the session.
    """
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    config.num_compute_capabilities = len(options.compute_capabilities)
    listed = list_capabilities(trt)
    for index, capability in enumerate(options.compute_capabilities):
        if not config.set_compute_capability(listed[capability], index):
            raise ExportError(f"tensorrt-rtx rejects compute capability {capability}")
    yield


@dataclass(frozen=True, slots=True)
class Maker:
    """How the two libraries differ while they build."""

    targets: Callable[[str, Sequence[str]], Capabilities]  # raises UsageError if it cannot build
    settings: Callable[[Any, Any, BuildOptions, Report], AbstractContextManager[None]]


MAKERS = {
    "tensorrt": Maker(gpu_here, timing_cache),
    "tensorrt-rtx": Maker(listed_gpus, listed_targets),
}
