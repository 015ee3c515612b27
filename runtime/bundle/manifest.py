"""Read and write ``bundle.json``.

Reading is strict: every field is checked, and fields that only a later version can honour are
refused. Each refusal states the problem and the command that fixes it. ``bundle.json`` is replaced
atomically after the model files are written, so a reader sees the old bundle or the new one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from rsna_lumbar.runtime.bundle.fields import (
    FORMAT_VERSION,
    NewerFieldError,
    as_current,
    as_declared,
    one_of,
    record,
    refuse_unknown,
    require_object,
    require_sha256,
    typed,
)
from rsna_lumbar.runtime.bundle.records import (
    CALIBRATION_AIMS,
    MANIFEST,
    PRECISIONS,
    REBUILD,
    WINDOW_SOURCES,
    Bundle,
    Detector,
    Engine,
    Model,
    WindowSource,
)
from rsna_lumbar.runtime.core.anchors import LARGEST_STRIDE
from rsna_lumbar.runtime.core.errors import BundleError
from rsna_lumbar.runtime.core.labels import GROUP_BY_NAME, GROUPS, SPINAL, Group
from rsna_lumbar.runtime.core.postprocess import COMBINATIONS, Calibration
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.system.atomic_files import write_atomically

READABLE_VERSIONS = (FORMAT_VERSION - 1, FORMAT_VERSION)
UNVERIFIED = "unverified"
UPDATE = "which needs a newer rsna-lumbar; update it"

# Fields that this version honours. The optional ones may be absent or null.
FIELDS = (
    "format_version", "made_with", "preprocessing", "window", "calibration_aim", "detectors",
)  # fmt: skip
DETECTOR_FIELDS = (
    "classes", "size_px", "calibration", "prior", "combination", "models", "views",
)  # fmt: skip

CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
Grades = tuple[float, float, float]
T = TypeVar("T")


def read_bundle(folder: Path) -> Bundle:
    """Read and check ``bundle.json``; model files are checked later, when they are opened.

    Raises:
        BundleError: no manifest, not JSON, another format version, or a missing or wrong field.
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
            f"{', '.join(map(str, READABLE_VERSIONS))}; {REBUILD} {folder} and its checkpoints"
        )
    try:
        return _bundle(as_current(fields))
    except NewerFieldError as error:
        raise BundleError(f"{path}: {error}, {UPDATE}") from error
    except (KeyError, TypeError, ValueError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise BundleError(f"{path} is damaged ({detail}); {REBUILD}") from error


def write_manifest(folder: Path, bundle: Bundle) -> None:
    """Replace ``bundle.json`` atomically. The model files must be in place already."""
    fields = {
        "format_version": FORMAT_VERSION,
        "made_with": dict(bundle.made_with),
        "preprocessing": asdict(bundle.preprocessing),
        "window": bundle.window_from and {"from": bundle.window_from},
        "calibration_aim": bundle.calibration_aim,
        "detectors": {d.group.name: _detector_fields(d) for d in bundle.detectors},
    }
    text = json.dumps(fields, indent=2, allow_nan=False) + "\n"
    write_atomically(folder / MANIFEST, text)


def _detector_fields(detector: Detector) -> dict[str, Any]:
    return {
        "classes": detector.group.classes,
        "size_px": detector.size_px,
        "calibration": asdict(detector.calibration),
        "prior": detector.prior,
        "combination": detector.combination,
        "models": [_model_fields(model) for model in detector.models],
        **({"views": asdict(detector.by_views)} if detector.by_views else {}),
    }


def _model_fields(model: Model) -> dict[str, Any]:
    return {**asdict(model), "parity": asdict(model.parity) if model.parity else UNVERIFIED}


def _bundle(fields: Mapping[str, Any]) -> Bundle:
    refuse_unknown(fields, FIELDS, "it")
    detectors = typed(fields, "detectors", dict)
    refuse_unknown(detectors, GROUP_BY_NAME, "detectors")
    found = tuple(
        _detector(group, detectors[group.name]) for group in GROUPS if group.name in detectors
    )
    if not found:
        raise ValueError("it has no detector")
    if found[0].group != SPINAL and any(one.by_views for one in found):
        raise ValueError("it has views, but no spinal detector to find the discs")
    return Bundle(
        detectors=found,
        preprocessing=_record(Preprocessing, fields["preprocessing"], "preprocessing"),
        calibration_aim=one_of(fields["calibration_aim"], CALIBRATION_AIMS, "calibration_aim"),
        made_with=dict(typed(fields, "made_with", dict)),
        window_from=_window_from(fields.get("window")),
    )


def _record(kind: type[T], fields: Any, name: str) -> T:
    """A record, of which a later version may have further fields that change the scores."""
    require_object(fields, name)
    refuse_unknown(fields, tuple(kind.__dataclass_fields__), name)  # type: ignore[attr-defined]
    return record(kind, fields, name)


def _window_from(fields: Any) -> WindowSource | None:
    if fields is None:
        return None
    require_object(fields, "window")
    for source in WINDOW_SOURCES:
        if fields == {"from": source}:
            return source
    raise NewerFieldError(f"its window is {json.dumps(fields)}")


def _detector(group: Group, fields: Any) -> Detector:
    require_object(fields, f"detectors.{group.name}")
    refuse_unknown(fields, DETECTOR_FIELDS, f"detectors.{group.name}")
    if fields.get("classes") is not None and typed(fields, "classes", list) != list(group.classes):
        raise NewerFieldError(f"{group.name} has other classes than {group.classes[0]}, ...")
    models = tuple(map(_model, typed(fields, "models", list)))
    if not models:
        raise ValueError(f"{group.name} has no model")
    size_px = typed(fields, "size_px", int)
    if size_px < 1 or size_px % LARGEST_STRIDE:
        raise ValueError(f"size_px must be a multiple of {LARGEST_STRIDE}")
    calibration = _record(Calibration, fields["calibration"], f"the calibration of {group.name}")
    combination = one_of(fields["combination"], COMBINATIONS, "combination")
    by_views = None
    if fields.get("views") is not None:
        if group == SPINAL:
            raise ValueError("views are not for spinal, whose slices all show every level")
        by_views = _record(Calibration, fields["views"], f"views of {group.name}")
    prior = _prior(group, fields)
    return Detector(group, size_px, calibration, prior, combination, models, by_views)


def _model(fields: Any) -> Model:
    require_object(fields, "models")
    parity = fields["parity"]
    if parity is None:
        raise ValueError(f"parity must be an object, or {UNVERIFIED}")
    model = _record(
        Model, {**fields, "parity": None if parity == UNVERIFIED else parity}, "a model"
    )
    one_of(model.precision, PRECISIONS, "precision")
    require_sha256(model.weights_sha256, "weights_sha256")
    if not model.files:
        raise ValueError("a model has no file")
    for file in model.files:
        require_sha256(file.sha256, "sha256")
        plain = file.name == PurePosixPath(file.name).name and file.name not in ("", ".", "..")
        if not plain or "\\" in file.name:
            raise ValueError(f"{file.name!r} is no plain file name")
    if model.engine:
        _require_sound(model.engine)
    if model.parity and model.parity.slices < 1:
        raise ValueError("slices must be at least 1")
    return model


def _require_sound(engine: Engine) -> None:
    if not all(map(CAPABILITY.fullmatch, engine.compute_capabilities)):
        raise ValueError("compute_capabilities must be a list such as ['8.9']")
    if not 1 <= engine.least_batch <= engine.best_batch <= engine.largest_batch:
        raise ValueError("the batch sizes of an engine must be at least 1, and must not fall")


def _prior(group: Group, fields: Mapping[str, Any]) -> tuple[Grades, ...]:
    prior: tuple[Grades, ...] = as_declared(fields["prior"], tuple[Grades, ...], "prior")
    if len(prior) != len(group.locations):
        raise ValueError(f"the {group.name} prior has {len(prior)} rows")
    for row in prior:
        if min(row) < 0 or abs(sum(row) - 1) > 1e-6:
            raise ValueError(f"a {group.name} prior row does not sum to 1")
    return prior
