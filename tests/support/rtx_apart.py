"""TensorRT-RTX in a process of its own, for tests: no test loads it into theirs."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from rsna_lumbar.export.formats import BuildOptions, Built, BuiltFile
from rsna_lumbar.export.formats.builder_process import Voice, Work, build_apart
from rsna_lumbar.export.formats.tensorrt_network import batch_profile, make_network
from rsna_lumbar.export.formats.tensorrt_watch import Watch


def asked_apart(work: Work, question: bytes) -> Any:
    """What a function below answers there; skips where the library is not installed."""
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt-rtx is not installed")
    (file,) = build_apart(work, question, name=work.__name__, log=None, report=print).files
    return json.loads(file.content)


def answered(answer: object) -> Built:
    """For such a function to return."""
    return Built((BuiltFile(".json", json.dumps(answer).encode()),), "", None)


def parsed_layers(graph: bytes, voice: Voice) -> Built:
    """Kind and type of the first output of each layer, strongly typed; or the errors."""
    trt = import_module("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = trt.Builder(logger).create_network(typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        return answered({"errors": errors, "layers": []})
    layers = map(network.get_layer, range(network.num_layers))
    found = [(one.type.name, one.get_output(0).dtype.name) for one in layers]
    return answered({"errors": [], "layers": found})


def shapes(graph: bytes, voice: Voice) -> Built:
    """Those of the profile for batches of 4 and up to 8, and of the outputs, by name."""
    trt = import_module("tensorrt_rtx")
    watch = Watch(trt, "", voice)
    builder = trt.Builder(watch.logger)
    network = make_network(trt, builder, watch.logger, graph, 8)
    profile = batch_profile(builder, network, BuildOptions(best_batch=4, largest_batch=8))
    ranges = {name: list(map(list, profile.get_shape(name))) for name in ("slices", "member")}
    outputs = map(network.get_output, range(network.num_outputs))
    return answered({**ranges, **{one.name: list(one.shape) for one in outputs}})


def missing_names(question: bytes, voice: Voice) -> Built:
    """Of a JSON object of classes and their names, those that are not there."""
    trt = import_module("tensorrt_rtx")
    asked: dict[str, list[str]] = json.loads(question)
    return answered(
        [
            f"{owner}.{name}"
            for owner in asked
            for name in asked[owner]
            if not _has(trt, owner, name)
        ]
    )


def _has(trt: Any, owner: str, name: str) -> bool:
    return hasattr(getattr(trt, owner), name)


def settable_names(question: bytes, voice: Voice) -> Built:
    """Of the names of a JSON list, the properties of IRuntimeConfig that can be set."""
    trt = import_module("tensorrt_rtx")
    names = json.loads(question)
    return answered([one for one in names if getattr(trt.IRuntimeConfig, one).fset is not None])
