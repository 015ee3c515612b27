"""Serialized engines of TensorRT (10 and 11) and TensorRT-RTX, by one way.

    score graph -> network, strongly typed -> plan, whose header is read back

Precision lies in the graph: float32 or float16 by its types, int8 by its Q/DQ pairs (symmetric,
float bias). TF32 is switched off, or float32 would have 10 bits of mantissa.

TensorRT builds by timing kernels on the GPU that is there, and for that one. TensorRT-RTX compiles
on the machine that runs it, so its plans are made without a GPU and for several at once.

The library is native code that may crash or hang: it builds in a process of its own.

Plans stay pure: what the runtime must know of them stands in the manifest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from rsna_lumbar.export.formats import BuildOptions, Built, BuiltFile, Report
from rsna_lumbar.export.formats.builder_process import Voice, build_apart
from rsna_lumbar.export.formats.tensorrt_network import (
    batch_profile,
    make_network,
    require_batches,
)
from rsna_lumbar.export.formats.tensorrt_watch import Watch, watched
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
# Not built for unless asked: TensorRT-RTX itself leaves Turing out of plans for several GPUs,
# since it may slow the others down.
ONLY_IF_ASKED = ("7.5",)


@dataclass(frozen=True, slots=True)
class Targets:
    """GPUs that a plan is built for."""

    capabilities: tuple[str, ...]  # such as "8.9"

    @property
    def name(self) -> str:
        """As it stands in the names of files: ``sm80.sm89``."""
        return ".".join(f"sm{one.replace('.', '')}" for one in self.capabilities)

    @classmethod
    def of(cls, name: str) -> Targets:
        """From that name."""
        return cls(tuple(f"{one[2:-1]}.{one[-1]}" for one in name.split(".")))


def build(name: str, graph: bytes, precision: str, options: BuildOptions, report: Report) -> Built:
    """Build a plan from a score graph that is already in its precision, in a process of its own.

    The library is never loaded into this process.

    Raises:
        UsageError: no library, no GPU where one is needed, or a target that there is not.
        BuildError: TensorRT refuses the graph; or it crashed, was killed, or hangs.
    """
    targets = _prepared(name, options)
    chosen = replace(options, compute_capabilities=targets.capabilities)
    work = partial(build_here, name=name, precision=precision, options=chosen)
    title = f"{name} {precision}"
    try:
        return build_apart(work, graph, name=title, log=options.log, report=report)
    except ExportError as error:
        raise BuildError(str(error), targets.name) from error


def build_here(
    graph: bytes, voice: Voice, *, name: str, precision: str, options: BuildOptions
) -> Built:
    """Build a plan in this process.

    Args:
        graph: an ONNX score graph in its precision.
        voice: takes what is said meanwhile.
        name: of the library.
        precision: for lines of progress.
        options: with the capabilities to build for.

    Raises:
        UsageError: the library cannot be loaded.
        ExportError: TensorRT refuses the graph.
    """
    trt, maker = load_library(name), MAKERS[name]
    targets = Targets(options.compute_capabilities)
    with watched(trt, f"{name} {precision}", voice, options.log) as watch:
        plan = _build(trt, graph, targets, maker, options, watch, voice.say)
    engine = Engine(
        version=library_version(trt),
        compute_capabilities=targets.capabilities,
        least_batch=1,
        best_batch=options.best_batch,
        largest_batch=options.largest_batch,
    )
    _require_header(plan, name, engine)
    return Built((BuiltFile(SUFFIX, plan),), targets.name, engine)


def require(name: str, options: BuildOptions) -> None:
    """Refuse, before any work, what cannot be built here.

    Raises:
        UsageError: no library, no GPU where one is needed, or a target that there is not.
    """
    _prepared(name, options)


def _prepared(name: str, options: BuildOptions) -> Targets:
    require_batches(options)
    maker = MAKERS[name]
    maker.require()
    return maker.targets(name, options.compute_capabilities)


@cache
def listed_apart(name: str) -> Targets:
    """What a library lists, asked in a process of its own.

    Raises:
        UsageError: it cannot be loaded.
        ExportError: it crashed while it was loaded, or hangs.
    """
    work = partial(list_here, name=name)
    return Targets.of(build_apart(work, b"", name=name, log=None, report=_unsaid).target)


def _unsaid(_: str) -> None:
    """Loading a library has no phases."""


def list_here(graph: bytes, voice: Voice, *, name: str) -> Built:
    """What a library lists, as the target of a build that made nothing."""
    return Built((), Targets(tuple(list_capabilities(load_library(name)))).name, None)


def _build(
    trt: Any,
    graph: bytes,
    targets: Targets,
    maker: Maker,
    options: BuildOptions,
    watch: Watch,
    report: Report,
) -> bytes:
    builder = trt.Builder(watch.logger)
    if builder is None:
        raise ExportError(f"TensorRT made no builder: {watch.trouble()}")
    network = make_network(trt, builder, watch.logger, graph, options.largest_batch)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(batch_profile(builder, network, options))
    maker.set_on(trt, config, targets.capabilities)
    watch.attach(config)
    with ExitStack() as after:
        if maker.times and options.timing_cache is not None:
            after.callback(_save_timings, config, options.timing_cache, report)
            _load_timings(config, options.timing_cache, report)
        plan = builder.build_serialized_network(network, config)
    watch.raise_failure()
    if plan is None:
        raise ExportError(f"TensorRT cannot build the engine: {watch.trouble()}")
    return bytes(plan)


def _require_header(plan: bytes, name: str, engine: Engine) -> None:
    """The runtime will go by the header: it must say what the builder says."""
    try:
        header = read_plan_header(plan)
    except PlanHeaderError as error:
        raise ExportError(f"{name} made a plan that this version cannot read: {error}") from error
    if (header.library, header.version) != (name, engine.version):
        raise ExportError(
            f"{name} {engine.version} made a plan whose header says {header.library} "
            f"{header.version}; report this with both versions"
        )


def _load_timings(config: Any, path: Path, report: Report) -> None:
    try:
        stored = path.read_bytes() if path.exists() else b""
    except OSError as error:
        report(f"{path} cannot be read ({error.strerror}): kernels are timed anew")
        stored = b""
    if not _attach_timings(config, stored):
        report(f"{path} is of another TensorRT or GPU, or damaged: kernels are timed anew")
        _attach_timings(config, b"")


def _attach_timings(config: Any, stored: bytes) -> bool:
    cache = config.create_timing_cache(stored)
    return cache is not None and bool(config.set_timing_cache(cache, ignore_mismatch=False))


def _save_timings(config: Any, path: Path, report: Report) -> None:
    try:
        with atomic_file(path) as stream:
            stream.write(bytes(config.get_timing_cache().serialize()))
    except OSError as error:  # the engine is worth more than its timings
        report(f"{path} cannot be written ({error.strerror}): the next build times kernels anew")


# Targets


def gpu_here(name: str, asked: Sequence[str]) -> Targets:
    """TensorRT's one target: the first GPU of this machine.

    Raises:
        UsageError: another one was asked for.
    """
    gpu = cuda_devices()[0]
    if tuple(asked) not in ((), (gpu.compute_capability,)):
        raise UsageError(
            f"tensorrt builds for the GPU here ({gpu.name}, compute capability "
            f"{gpu.compute_capability}), not for {', '.join(asked)}; run rsna-export on that GPU"
        )
    require_installed(name)
    return Targets((gpu.compute_capability,))


def listed_gpus(name: str, asked: Sequence[str]) -> Targets:
    """TensorRT-RTX's targets: those asked for, else the GPU here, else all that it lists.

    Raises:
        UsageError: one is not listed.
    """
    require_installed(name)
    listed = listed_apart(name).capabilities
    chosen = tuple(asked) or _here_or_all(listed)
    unknown = [one for one in chosen if one not in listed]
    if unknown:
        raise UsageError(
            f"tensorrt-rtx does not build for compute capability {', '.join(unknown)}; there is "
            f"{', '.join(listed)}; for others use --format tensorrt on that GPU"
        )
    return Targets(tuple(one for one in listed if one in chosen))


def set_listed(trt: Any, config: Any, capabilities: Sequence[str]) -> None:
    """Build for these; its CUDA graphs need all memory to come from the session."""
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    config.num_compute_capabilities = len(capabilities)
    listed = list_capabilities(trt)
    for index, capability in enumerate(capabilities):
        if not config.set_compute_capability(listed[capability], index):
            raise ExportError(f"tensorrt-rtx refuses compute capability {capability}")


def list_capabilities(trt: Any) -> dict[str, Any]:
    """Capabilities such as "8.9" that TensorRT-RTX lists, in rising order, with its names."""
    names = trt.ComputeCapability.__members__
    found = {
        (int(match[1]), int(match[2])): names[name]
        for name in names
        if (match := TARGET.fullmatch(name))
    }
    return {f"{major}.{minor}": found[major, minor] for major, minor in sorted(found)}


def _here_or_all(listed: Sequence[str]) -> tuple[str, ...]:
    here = tuple(dict.fromkeys(gpu.compute_capability for gpu in cuda_devices()))
    return here or tuple(one for one in listed if one not in ONLY_IF_ASKED)


def _nothing(trt: Any, config: Any, capabilities: Sequence[str]) -> None:
    """Built for the GPU here; hardware compatibility stays at its default, none."""


# The two libraries


@dataclass(frozen=True, slots=True)
class Maker:
    """What differs between the libraries while building."""

    require: Callable[[], None]  # raises UsageError where this machine cannot build
    targets: Callable[[str, Sequence[str]], Targets]
    set_on: Callable[[Any, Any, Sequence[str]], None]  # library, configuration, capabilities
    times: bool  # kernels are timed: there is a timing cache


def _require_gpu() -> None:
    if not cuda_devices():
        raise UsageError(
            "tensorrt builds engines on the GPU that runs them, and no NVIDIA GPU was found; use "
            "--format tensorrt-rtx, which needs none, or run rsna-export on the machine with it"
        )


def _anywhere() -> None:
    """TensorRT-RTX builds without a GPU."""


MAKERS = {
    "tensorrt": Maker(_require_gpu, gpu_here, _nothing, True),
    "tensorrt-rtx": Maker(_anywhere, listed_gpus, set_listed, False),
}
