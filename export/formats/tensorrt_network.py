"""A score graph as a TensorRT network, and the batch sizes that it is built for.

slices (N, S, S)     N from 1 to the largest batch, tuned for the best one
member (G, N)        G fixed at the largest batch: no batch holds more sets than slices
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsna_lumbar.export.formats import BuildOptions
from rsna_lumbar.runtime.backends import OUTPUTS
from rsna_lumbar.runtime.core.errors import ExportError

# As in export/graph/score_graph.py, which imports PyTorch; an engine is built without it.
INPUTS = ("slices", "member", "temperature", "bias", "floor", "prior")
SHOWN_ERRORS = 3


def make_network(trt: Any, builder: Any, logger: Any, graph: bytes, sets: int) -> Any:
    """Parse an ONNX score graph into a strongly typed network with a fixed number of sets.

    Raises:
        ExportError: TensorRT cannot parse it, with the nodes and the reasons.
    """
    # Required by 10; accepted by 11, where every network is strongly typed.
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise ExportError(f"TensorRT cannot parse the graph: {_reasons(errors)}")
    inputs = {one.name: one for one in map(network.get_input, range(network.num_inputs))}
    outputs = [network.get_output(index).name for index in range(network.num_outputs)]
    if set(inputs) != set(INPUTS) or set(outputs) != set(OUTPUTS):
        raise ExportError(f"not a score graph: inputs {', '.join(inputs)}, outputs {outputs}")
    inputs["member"].shape = (sets, -1)
    return network


def batch_profile(builder: Any, network: Any, options: BuildOptions) -> Any:
    """The optimization profile: least, best and largest shapes."""
    inputs = map(network.get_input, range(network.num_inputs))
    size_px = next(one.shape[-1] for one in inputs if one.name == "slices")
    batches = (1, options.best_batch, options.largest_batch)
    profile = builder.create_optimization_profile()
    profile.set_shape("slices", *[(batch, size_px, size_px) for batch in batches])
    profile.set_shape("member", *[(options.largest_batch, batch) for batch in batches])
    return profile


def _reasons(errors: Sequence[Any]) -> str:
    lines = [
        f"{error.node_name() or 'the file'}"
        f"{f' ({error.node_operator()})' if error.node_operator() else ''}: "
        f"{' '.join(error.desc().split())}"
        for error in errors
    ]
    more = f"; and {len(lines) - SHOWN_ERRORS} more" if len(lines) > SHOWN_ERRORS else ""
    return "; ".join(lines[:SHOWN_ERRORS]) + more or "no reason given"
