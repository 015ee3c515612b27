"""Records that describe a bundle: detectors, their models in several variants, and measurements.

A bundle is a folder with ``bundle.json`` (``manifest.py``) and the files it names (``store.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from rsna_lumbar.runtime.core.labels import GROUPS, SPINAL, Group
from rsna_lumbar.runtime.core.postprocess import Calibration, Combination
from rsna_lumbar.runtime.core.preprocess import Preprocessing

MANIFEST = "bundle.json"
CALIBRATION_AIMS = ("none", "metric", "probability")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
ANY_TARGET = "any"
REBUILD = "rebuild it with rsna-export"


# Source of a bundle's percentiles: a card written by training, --window, or the default.
WindowSource = Literal["card", "asked", "assumed"]
WINDOW_SOURCES: tuple[WindowSource, ...] = get_args(WindowSource)


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a model's results differ from the reference on the same slices, and its speed.

    The reference is the unmodified network in PyTorch float32. If a bundle is verified on a machine
    without the checkpoints, it is the bundle's float32 ONNX graph, which was verified against
    PyTorch itself.
    """

    reference: str  # "pytorch" or "fp32 graph"
    source: str  # source of the slices: "phantom" or "data"
    slices: int
    rows: int  # number of places in all sets
    peak: float  # largest difference of a peak
    probability: float  # largest difference of a probability
    probability_p999: float  # 99.9th percentile of the differences
    changed_rows: int  # rows whose likeliest grade changed
    # Official metric of the labelled studies: with the reference's peaks, with the variant's.
    metric: tuple[float, float] | None
    device: str  # device of the measurement: "cpu" or "cuda:N"
    hardware: str  # the same device in words
    ms_per_slice: float | None  # in batches, median of a few runs; None if not measured


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a bundle."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Engine:
    """What a serialized engine requires of the machine that runs it."""

    version: str  # TensorRT version that built it, four numbers; it runs in no other version
    compute_capabilities: tuple[str, ...]  # of the GPUs it was built for, such as "8.9"
    least_batch: int
    best_batch: int  # batch size that it was tuned for
    largest_batch: int  # also the fixed number of rows of ``member``


@dataclass(frozen=True, slots=True)
class Model:
    """One model. A group has several for an ensemble, for several precisions, or for engines."""

    files: tuple[ModelFile, ...]  # one file; for OpenVINO the XML file, then the weights
    backend: str
    target: str  # ANY_TARGET, or the GPU that an engine was built for
    precision: str  # one of PRECISIONS
    weights_sha256: str  # SHA-256 of the checkpoint; one per detector of an ensemble
    engine: Engine | None  # for a serialized engine
    parity: Parity | None  # None while unverified: no machine that can run it has verified it

    @property
    def variant(self) -> Variant:
        return Variant(self.backend, self.target, self.precision)


@dataclass(frozen=True, order=True, slots=True)
class Variant:
    """How models differ apart from their weights. Scoring uses one variant for all groups."""

    backend: str
    target: str
    precision: str

    def __str__(self) -> str:
        target = "" if self.target == ANY_TARGET else f" {self.target}"
        return f"{self.backend} {self.precision}{target}"


@dataclass(frozen=True, slots=True)
class Detector:
    """Everything needed to score a group."""

    group: Group
    size_px: int
    calibration: Calibration
    prior: tuple[tuple[float, float, float], ...]  # (locations, 3), for a set without slices
    combination: Combination
    models: tuple[Model, ...]
    by_views: Calibration | None = None  # fitted to peaks by views; None: all slices speak for all

    @property
    def in_session(self) -> Calibration:
        """The calibration that the score graph gets."""
        return self.by_views or self.calibration

    def calibration_of(self, *, by_position: bool) -> Calibration:
        """The calibration of a set whose views are known by position, or of one of all slices."""
        return self.in_session if by_position else self.calibration


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as its manifest describes it."""

    detectors: tuple[Detector, ...]  # in the order of GROUPS, at least one
    preprocessing: Preprocessing
    calibration_aim: str  # one of CALIBRATION_AIMS
    made_with: Mapping[str, str]  # versions of the software that made it
    window_from: WindowSource | None = None  # None: not recorded

    @property
    def groups(self) -> tuple[Group, ...]:
        """Groups that have a detector."""
        return tuple(detector.group for detector in self.detectors)

    @property
    def groups_by_views(self) -> tuple[str, ...]:
        """Names of the groups that are scored by views where positions are known."""
        return tuple(one.group.name for one in self.detectors if one.by_views)

    def scoring(self, *, by_views: bool) -> Bundle:
        """The same detectors, taking peaks by views or of all slices, whatever they are fitted for.

        For peaks; the probabilities of such a bundle are not calibrated.
        """
        detectors = tuple(
            replace(one, by_views=one.in_session if by_views and one.group != SPINAL else None)
            for one in self.detectors
        )
        return replace(self, detectors=detectors)

    @property
    def missing_groups(self) -> tuple[Group, ...]:
        """Groups that have no detector: their series are not read and get no rows."""
        return tuple(group for group in GROUPS if group not in self.groups)

    @property
    def models(self) -> tuple[tuple[Detector, Model], ...]:
        """Every model with its detector, in the order of the manifest."""
        return tuple((detector, model) for detector in self.detectors for model in detector.models)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Variants that have a model for every checkpoint of every group, in manifest order."""
        all_weights = {(d.group.name, m.weights_sha256) for d, m in self.models}
        found: dict[Variant, set[tuple[str, str]]] = {}
        for detector, model in self.models:
            found.setdefault(model.variant, set()).add((detector.group.name, model.weights_sha256))
        return tuple(variant for variant, weights in found.items() if weights == all_weights)
