"""A TensorRT module that builds: it parses ONNX for its inputs and writes a header as a plan."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import onnx
from fake_tensorrt import VERSION, Severity, fake_plan

CACHE = b"timings of TensorRT " + VERSION.encode()


class BuilderFlag(IntEnum):
    TF32 = 7


class NetworkDefinitionCreationFlag(IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class Base:
    """ILogger and IProgressMonitor, to derive from."""


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return CACHE


class Config:
    progress_monitor: Any = None

    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.profiles: list[dict[str, Any]] = []
        self.cache: TimingCache | None = None

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profiles.append(profile.shapes)

    def create_timing_cache(self, content: bytes) -> TimingCache | None:
        known = not content or content.startswith(b"timings")
        return TimingCache(content) if known else None

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        fits = cache.content in (b"", CACHE)
        if fits:
            self.cache = cache
        return fits

    def get_timing_cache(self) -> TimingCache | None:
        return self.cache


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, best: Any, largest: Any) -> None:
        self.shapes[name] = (least, best, largest)


class Network:
    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_input(self, index: int) -> Any:
        return self.inputs[index]

    def get_output(self, index: int) -> Any:
        return self.outputs[index]


def _tensor(value: onnx.ValueInfoProto) -> Any:
    sides = value.type.tensor_type.shape.dim
    return SimpleNamespace(name=value.name, shape=tuple(one.dim_value or -1 for one in sides))


class FakeBuilder:
    """What ``import tensorrt`` gives."""

    def __init__(self, library: str = "tensorrt", header: str = VERSION) -> None:
        """header: the version that plans say they are of."""
        self.__version__ = VERSION
        self.library = library
        self.header = header
        self.ILogger = self.IProgressMonitor = Base
        self.BuilderFlag = BuilderFlag
        self.NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
        self.network_flags = -1
        self.config = Config()
        self.network = Network()
        self.says: list[tuple[Severity, str]] = []  # while it builds
        self.fails = False
        self.stopped = False
        self.logger: Any = None

    def Builder(self, logger: Any) -> FakeBuilder:
        self.logger = logger
        return self

    def OnnxParser(self, network: Network, logger: Any) -> Any:
        def parse(graph: bytes) -> bool:
            model = onnx.load_model_from_string(graph)
            network.inputs = [_tensor(value) for value in model.graph.input]
            network.outputs = [_tensor(value) for value in model.graph.output]
            return True

        return SimpleNamespace(parse=parse)

    def create_network(self, flags: int) -> Network:
        self.network_flags = flags
        return self.network

    def create_builder_config(self) -> Config:
        return self.config

    create_optimization_profile: Callable[[], Profile] = staticmethod(Profile)

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        for severity, text in self.says:
            self.logger.log(severity, text)
        config.progress_monitor.phase_start("Building", None, 2)
        config.progress_monitor.phase_start("Timing", "Building", 2)
        config.progress_monitor.phase_start("One kernel", "Timing", 2)
        self.stopped = not config.progress_monitor.step_complete("One kernel", 0)
        return None if self.fails or self.stopped else fake_plan(self.library, self.header)
