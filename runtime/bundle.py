"""The bundle: a folder with ``bundle.json`` and the model files that it names.

Reading is strict: every field is checked, every model's SHA-256 is compared before anything
opens it, and a refusal says what is wrong and which command mends it. Writing puts the model
files first and ``bundle.json`` last, by atomic replacement, so that a reader sees the old bundle
or the new one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from rsna_lumbar.runtime.cells import LARGEST_STRIDE
from rsna_lumbar.runtime.errors import BundleError
from rsna_lumbar.runtime.files import write_atomically
from rsna_lumbar.runtime.grading import COMBINATIONS, Calibration, Combination
from rsna_lumbar.runtime.labels import GRADES, GROUP_BY_NAME, GROUPS, Group
from rsna_lumbar.runtime.preprocess import Preprocessing

MANIFEST = "bundle.json"
FORMAT_VERSION = 1
READABLE_VERSIONS = (1,)  # this version and the one before it
CALIBRATION_AIMS = ("none", "metric", "probability")
REBUILD = "rebuild it with rsna-export"

# What model_file_name gives: group, backend, target, precision, 12 digits of the SHA-256.
MODEL_FILE_NAME = re.compile(
    rf"({'|'.join(GROUP_BY_NAME)})-[a-z]+-[a-z0-9.]+-(fp32|fp16|bf16|int8)-[0-9a-f]{{12}}\.[a-z]+"
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest differences from the PyTorch network in float32 on the same slices."""

    peak: float
    probability: float
    slices: int
    source: str  # what the slices were: "phantom" or "data"


@dataclass(frozen=True, slots=True)
class Model:
    """One model file. Several per group: the detectors of an ensemble, engines, precisions."""

    file: str
    sha256: str
    backend: str
    target: str  # "any", or what an engine was built for
    precision: str
    weights_sha256: str  # of the checkpoint; one per detector of an ensemble
    parity: Parity


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

    detectors: tuple[Detector, ...]  # in the order of GROUPS
    preprocessing: Preprocessing
    calibration_aim: str  # one of CALIBRATION_AIMS
    made_with: Mapping[str, str]  # versions of what made it


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bundle(folder: Path) -> Bundle:
    """Read and check ``bundle.json``; the model files are checked when they are opened.

    Raises:
        BundleError: no manifest, not JSON, another format version, a field missing or wrong.
    """
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BundleError(
            f"{folder} is no bundle: it holds no {MANIFEST}; make one with rsna-export"
        ) from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); {REBUILD}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is damaged (not JSON); {REBUILD}") from error
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if type(version) is not int or version not in READABLE_VERSIONS:
        raise BundleError(
            f"{path} has format version {version!r}, this program reads "
            f"{', '.join(map(str, READABLE_VERSIONS))}; {REBUILD}"
        )
    try:
        return _bundle(fields)
    except (KeyError, TypeError, ValueError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise BundleError(f"{path} is damaged ({detail}); {REBUILD}") from error


def read_model(folder: Path, model: Model) -> bytes:
    """Content of a model file, once it is what the manifest says.

    Raises:
        BundleError: the file is missing, or its SHA-256 differs.
    """
    path = folder / model.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); {REBUILD}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != model.sha256:
        raise BundleError(
            f"{path} is not the file that {MANIFEST} names: its SHA-256 is {found[:12]}..., "
            f"expected {model.sha256[:12]}...; {REBUILD}"
        )
    return content


def write_manifest(folder: Path, bundle: Bundle) -> None:
    """Replace ``bundle.json`` atomically. The model files must be in place already."""
    fields = {
        "format_version": FORMAT_VERSION,
        "made_with": dict(bundle.made_with),
        "preprocessing": asdict(bundle.preprocessing),
        "calibration_aim": bundle.calibration_aim,
        "detectors": {d.group.name: _detector_fields(d) for d in bundle.detectors},
    }
    text = json.dumps(fields, indent=2, allow_nan=False) + "\n"
    write_atomically(folder / MANIFEST, text)


def remove_unreferenced(folder: Path, bundle: Bundle) -> None:
    """Delete model files of earlier bundles: only what is named as a bundle names its models."""
    kept = {model.file for detector in bundle.detectors for model in detector.models}
    for path in folder.iterdir():
        if MODEL_FILE_NAME.fullmatch(path.name) and path.name not in kept:
            path.unlink()


def model_file_name(
    group: Group, backend: str, target: str, precision: str, sha256: str, suffix: str
) -> str:
    """``spinal-onnxruntime-any-fp32-<12 digits of the SHA-256>.onnx``."""
    return f"{group.name}-{backend}-{target}-{precision}-{sha256[:12]}{suffix}"


def _detector_fields(detector: Detector) -> dict[str, Any]:
    return {
        "classes": detector.group.classes,
        "size_px": detector.size_px,
        "calibration": asdict(detector.calibration),
        "prior": detector.prior,
        "combination": detector.combination,
        "models": [asdict(model) for model in detector.models],
    }


def _bundle(fields: Mapping[str, Any]) -> Bundle:
    detectors = _typed(fields, "detectors", dict)
    preprocessing = _typed(fields, "preprocessing", dict)
    return Bundle(
        detectors=tuple(_detector(group, detectors[group.name]) for group in GROUPS),
        preprocessing=Preprocessing(
            low_percentile=_number(preprocessing, "low_percentile"),
            high_percentile=_number(preprocessing, "high_percentile"),
            pad_value=_typed(preprocessing, "pad_value", int),
        ),
        calibration_aim=_aim(fields),
        made_with=dict(_typed(fields, "made_with", dict)),
    )


def _detector(group: Group, fields: Any) -> Detector:
    _require_object(fields, f"detectors.{group.name}")
    if tuple(_typed(fields, "classes", list)) != group.classes:
        raise ValueError(f"the {group.name} classes are not in canonical order")
    calibration = _typed(fields, "calibration", dict)
    combination = _typed(fields, "combination", str)
    if combination not in COMBINATIONS:
        raise ValueError(f"combination {combination!r} is none of {', '.join(COMBINATIONS)}")
    models = tuple(_model(model) for model in _typed(fields, "models", list))
    if not models:
        raise ValueError(f"{group.name} has no model")
    return Detector(
        group=group,
        size_px=_size(fields),
        calibration=Calibration(
            temperature=_number(calibration, "temperature"),
            bias=_grades(_typed(calibration, "bias", list)),
            floor=_number(calibration, "floor"),
        ),
        prior=_prior(group, _typed(fields, "prior", list)),
        combination=combination,
        models=models,
    )


def _model(fields: Any) -> Model:
    _require_object(fields, "models")
    file = _typed(fields, "file", str)
    if file != PurePosixPath(file).name or file in ("", ".", "..") or "\\" in file:
        raise ValueError(f"{file!r} is no plain file name")
    parity = _typed(fields, "parity", dict)
    return Model(
        file=file,
        **{
            key: _typed(fields, key, str)
            for key in ("sha256", "backend", "target", "precision", "weights_sha256")
        },
        parity=Parity(
            peak=_number(parity, "peak"),
            probability=_number(parity, "probability"),
            slices=_positive(parity, "slices"),
            source=_typed(parity, "source", str),
        ),
    )


def _prior(group: Group, rows: list[Any]) -> tuple[tuple[float, float, float], ...]:
    prior = tuple(_grades(row) for row in rows)
    if len(prior) != len(group.locations):
        raise ValueError(f"the {group.name} prior has {len(prior)} rows")
    for row in prior:
        if min(row) < 0 or abs(sum(row) - 1) > 1e-6:
            raise ValueError(f"a {group.name} prior row does not sum to 1")
    return prior


def _grades(values: Any) -> tuple[float, float, float]:
    if not isinstance(values, list) or len(values) != len(GRADES):
        raise ValueError("expected one number for each grade")
    first, second, third = (_number({"value": value}, "value") for value in values)
    return first, second, third


def _require_object(fields: Any, name: str) -> None:
    if not isinstance(fields, dict):
        raise ValueError(f"{name} must be an object")


def _typed(fields: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = fields[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key} must be {kind.__name__}")
    return value


def _number(fields: Mapping[str, Any], key: str) -> float:
    value = fields[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{key} must be a finite number")
    return float(value)


def _aim(fields: Mapping[str, Any]) -> str:
    aim = _typed(fields, "calibration_aim", str)
    if aim not in CALIBRATION_AIMS:
        raise ValueError(f"calibration_aim {aim!r} is none of {', '.join(CALIBRATION_AIMS)}")
    return aim


def _size(fields: Mapping[str, Any]) -> int:
    size_px = _positive(fields, "size_px")
    if size_px % LARGEST_STRIDE:
        raise ValueError(f"size_px must be a multiple of {LARGEST_STRIDE}")
    return size_px


def _positive(fields: Mapping[str, Any], key: str) -> int:
    value = _typed(fields, key, int)
    if value < 1:
        raise ValueError(f"{key} must be at least 1")
    return value
