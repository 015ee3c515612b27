"""What a bundle is, as records: detectors, their models in several variants, and what was measured.

A bundle is a folder: ``bundle.json`` (``manifest.py``), and the files that it names (``store.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.core.postprocess import Calibration, Combination
from rsna_lumbar.runtime.core.preprocess import Preprocessing

MANIFEST = "bundle.json"
CALIBRATION_AIMS = ("none", "metric", "probability")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
ANY_TARGET = "any"
REBUILD = "rebuild it with rsna-export"


# Where a bundle's percentiles come from: a card that training left, --window, or neither.
WindowSource = Literal["card", "asked", "assumed"]
WINDOW_SOURCES: tuple[WindowSource, ...] = get_args(WindowSource)


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a model's answers are from the reference's, on the same slices; and how fast it was.

    The reference is the unmodified network in PyTorch float32 or, where a bundle is verified on a
    machine without the checkpoints, its own float32 ONNX graph, which was held to PyTorch itself.
    """

    reference: str  # "pytorch" or "fp32 graph"
    source: str  # what the slices were: "phantom" or "data"
    slices: int
    rows: int  # places of all sets
    peak: float  # largest difference of a peak
    probability: float  # largest difference of a probability
    probability_p999: float  # 99.9th percentile of the differences
    changed_rows: int  # whose likeliest grade is another one
    # Official metric of the labelled studies by the reference's peaks and by the variant's.
    metric: tuple[float, float] | None
    device: str  # that it ran on: "cpu" or "cuda:N"
    hardware: str  # the same in words
    ms_per_slice: float | None  # in batches, the median of a few runs; None: not measured


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a bundle."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Engine:
    """What a serialized engine asks of the machine that runs it."""

    version: str  # of the TensorRT that built it, four numbers: an engine runs in no other
    compute_capabilities: tuple[str, ...]  # of the GPUs that it was built for, as "8.9"
    least_batch: int
    best_batch: int  # that it was tuned for
    largest_batch: int  # also the fixed number of rows of ``member``


@dataclass(frozen=True, slots=True)
class Model:
    """One model. Several per group: the detectors of an ensemble, precisions, engines."""

    files: tuple[ModelFile, ...]  # one; for OpenVINO the XML, then the weights
    backend: str
    target: str  # ANY_TARGET, or what an engine was built for
    precision: str  # one of PRECISIONS
    weights_sha256: str  # of the checkpoint; one per detector of an ensemble
    engine: Engine | None  # for a serialized engine
    parity: Parity | None  # None while unverified: no machine that can run it has tried it

    @property
    def variant(self) -> Variant:
        return Variant(self.backend, self.target, self.precision)


@dataclass(frozen=True, order=True, slots=True)
class Variant:
    """What the models of a bundle differ in beside their weights. Scoring takes a whole one."""

    backend: str
    target: str
    precision: str

    def __str__(self) -> str:
        words = (
            self.backend,
            self.precision,
            *((self.target,) if self.target != ANY_TARGET else ()),
        )
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Detector:
    """What a group is scored with."""

    group: Group
    size_px: int
    calibration: Calibration
    prior: tuple[tuple[float, float, float], ...]  # (locations, 3), for a set without slices
    combination: Combination
    models: tuple[Model, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as its manifest describes it."""

    detectors: tuple[Detector, ...]  # in the order of GROUPS, at least one
    preprocessing: Preprocessing
    calibration_aim: str  # one of CALIBRATION_AIMS
    made_with: Mapping[str, str]  # versions of what made it
    window_from: WindowSource | None = None  # None: not recorded

    @property
    def groups(self) -> tuple[Group, ...]:
        """Those that it has a detector for."""
        return tuple(detector.group for detector in self.detectors)

    @property
    def missing_groups(self) -> tuple[Group, ...]:
        """Those that it has no detector for: their series are not read and get no rows."""
        return tuple(group for group in GROUPS if group not in self.groups)

    @property
    def models(self) -> tuple[tuple[Detector, Model], ...]:
        """Every model with its detector, in the order of the manifest."""
        return tuple((detector, model) for detector in self.detectors for model in detector.models)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Variants with a model for every checkpoint of every group, as the manifest has them."""
        all_weights = {(d.group.name, m.weights_sha256) for d, m in self.models}
        found: dict[Variant, set[tuple[str, str]]] = {}
        for detector, model in self.models:
            found.setdefault(model.variant, set()).add((detector.group.name, model.weights_sha256))
        return tuple(variant for variant, weights in found.items() if weights == all_weights)
