"""The score graph: slices and sets in, calibrated grades out, as one ONNX file.

For slices n, sets g, classes c, locations l and grades k, class logits z, and cells a of the three
grids, numbered grid after grid, row by row:

    z[n, c]            = max over a of z[n, c, a]
    z[g, c]            = max over slices n of set g of z[n, c]
    peak[g, c]         = 1 / (1 + exp(-z[g, c]))                        0 for an empty set
    probability[g, l]  = softmax over k of log(max(peak[g, 3 l + k], floor)) / T + bias[k]
                                                                        prior[l] for an empty set
    slice[g, c]        = the first n that reaches z[g, c]               -1 for an empty set
    cell[g, c]         = the first a that reaches it in that slice      -1 for an empty set

The sigmoid is monotonic, so the maximum is taken over logits and the sigmoid of the maximum. It is
written with Exp: ONNX Runtime's CPU Sigmoid is accurate to 1e-7 absolute, which is a relative error
of 2e-3 at a logit of -10. The normalisation of small peaks turns this into more than 1e-4, the
limit of a probability. Exp is accurate relative to its result.

The cells are reduced once, row by row. ``cell`` then reads only the row maxima of the winning slice
and one row of one grid, so the whole aggregation takes under 0.5 % of the run (ONNX Runtime on a
CPU, YOLOv8n, 384 px, batch 16, 1 to 16 sets). Masked logits are the lowest finite float32, because
not all engines handle infinities.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import onnx
import torch
from torch import Tensor, nn

from rsna_lumbar.export.graph.rewrite import ClassNetwork
from rsna_lumbar.runtime.backends import OUTPUTS
from rsna_lumbar.runtime.core.anchors import STRIDES_PX
from rsna_lumbar.runtime.core.labels import GRADES, Group
from rsna_lumbar.runtime.core.preprocess import Preprocessing

OPSET = 18
GRAPH_FORMAT = "rsna-lumbar score graph 1"
INPUTS = ("slices", "member", "temperature", "bias", "floor", "prior")
AXES = {
    "slices": {0: "N"},
    "member": {0: "G", 1: "N"},
    **{name: {0: "G"} for name in OUTPUTS},
}
LOWEST = torch.finfo(torch.float32).min


class Aggregation(nn.Module):
    """Class logits of the three grids and the sets -> the four outputs."""

    start_of_row: Tensor
    class_index: Tensor

    def __init__(self, classes: int, sides: tuple[int, ...]) -> None:
        super().__init__()
        self.classes = classes
        self.sides = sides  # cells a side of P3, P4, P5
        lengths = [side for side in sides for _ in range(side)]
        starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
        self.register_buffer("start_of_row", starts)  # (R,) first cell of each row of all grids
        self.register_buffer("class_index", torch.arange(classes))

    def forward(
        self,
        logits: list[Tensor],  # (N, C, H, H) for each grid
        member: Tensor,  # (G, N) bool
        temperature: Tensor,  # (1,)
        bias: Tensor,  # (3,)
        floor: Tensor,  # (1,)
        prior: Tensor,  # (L, 3)
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = torch.cat([grid.amax(dim=3) for grid in logits], dim=2)  # (N, C, R)
        highest = rows.amax(dim=2)  # (N, C)
        masked = torch.where(member[:, :, None], highest[None], LOWEST)  # (G, N, C)
        winner = masked.argmax(dim=1)  # (G, C)
        filled = member.to(torch.float32).amax(dim=1, keepdim=True) > 0  # (G, 1)

        peak = 1 / (1 + torch.exp(-masked.amax(dim=1)))
        peak = torch.where(filled, peak, 0.0)  # (G, C)
        grades = peak.reshape(-1, self.classes // len(GRADES), len(GRADES))
        scores = torch.log(torch.maximum(grades, floor)) / temperature + bias
        probability = torch.where(filled[:, :, None], scores.softmax(dim=2), prior)  # (G, L, 3)

        cell = self._cells(logits, rows, winner)
        return (
            peak,
            probability,
            torch.where(filled, winner, -1),
            torch.where(filled, cell, -1),
        )

    def _cells(self, logits: list[Tensor], rows: Tensor, winner: Tensor) -> Tensor:
        """First cell of the maximum in the winning slice of each set and class, (G, C)."""
        place = winner * self.classes + self.class_index  # (G, C) into (N C)
        row = rows.reshape(-1, sum(self.sides))[place].argmax(dim=2)  # (G, C)
        columns = []
        first = 0  # row of this grid
        for grid, side in zip(logits, self.sides, strict=True):
            inside = (row - first).clamp(0, side - 1)
            cells = grid.reshape(-1, side)[place * side + inside]  # (G, C, H)
            columns.append(torch.where(row >= first, cells.argmax(dim=2), -1))
            first += side
        p3, p4, p5 = columns  # -1 in the grids behind the right one
        column = torch.where(p5 >= 0, p5, torch.where(p4 >= 0, p4, p3))
        return self.start_of_row[row] + column


class ScoreGraph(nn.Module):
    """The network and the aggregation."""

    def __init__(self, network: ClassNetwork, classes: int, size_px: int) -> None:
        super().__init__()
        self.network = network
        self.aggregation = Aggregation(classes, grid_sides(size_px))

    def forward(self, slices: Tensor, *sets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """slices: (N, S, S) uint8; sets: as for :class:`Aggregation`, behind the logits."""
        # The cast comes first: in TensorRT only a cast may read uint8.
        logits = self.network(slices.to(torch.float32)[:, None])
        result: tuple[Tensor, Tensor, Tensor, Tensor] = self.aggregation(logits, *sets)
        return result


def grid_sides(size_px: int) -> tuple[int, ...]:
    """Cells per side of P3, P4 and P5 for a size that is a multiple of 32."""
    return tuple(size_px // stride for stride in STRIDES_PX)


def export_score_graph(
    network: ClassNetwork,
    group: Group,
    size_px: int,
    *,
    preprocessing: Preprocessing,
    versions: Mapping[str, str],
) -> bytes:
    """Write the score graph of a rewritten network as a float32 ONNX file.

    Args:
        network: from :func:`rsna_lumbar.export.graph.rewrite.rewrite`; cast to float32 in place.
        group: the classes that it detects, in canonical order.
        size_px: side of the slices, a multiple of 32.
        preprocessing, versions: for the metadata.
    """
    graph = ScoreGraph(network.float(), len(group.classes), size_px).eval()
    slices = torch.zeros(2, size_px, size_px, dtype=torch.uint8)
    model = trace(graph, (slices, *example_sets(2, len(group.locations))), INPUTS, AXES)
    onnx.helper.set_model_props(
        model,
        {
            "format": GRAPH_FORMAT,
            "group": group.name,
            "classes": json.dumps(group.classes),
            "size_px": str(size_px),
            "preprocessing": json.dumps(asdict(preprocessing)),
            "versions": json.dumps(dict(versions)),
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def example_sets(slice_count: int, locations: int) -> tuple[Tensor, ...]:
    """Inputs to trace with: one set of all slices, a plain calibration and an even prior."""
    return (
        torch.ones(1, slice_count, dtype=torch.bool),
        torch.ones(1),
        torch.zeros(len(GRADES)),
        torch.full((1,), 1e-4),
        torch.full((locations, len(GRADES)), 1 / len(GRADES)),
    )


def trace(
    module: nn.Module,
    example: tuple[Tensor | list[Tensor], ...],
    inputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> onnx.ModelProto:
    """Export a module with the outputs of the score graph; ``axes`` names the dynamic ones.

    This is the TorchScript exporter: the newer one would add the dependency onnxscript.
    """
    content = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter says that it is deprecated
        torch.onnx.export(
            module,
            example,
            content,  # type: ignore[arg-type]  # this exporter takes a stream too
            input_names=list(inputs),
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_model_from_string(content.getvalue())
