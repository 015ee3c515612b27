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
from dataclasses import fields as dataclass_fields
from pathlib import Path, PurePosixPath
from typing import Any

from rsna_lumbar.runtime.bundle.fields import (
    FORMAT_VERSION,
    NewerFieldError,
    as_current,
    finite,
    number,
    positive,
    refuse_unknown,
    require_object,
    sha256,
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
    ModelFile,
    Parity,
    WindowSource,
)
from rsna_lumbar.runtime.core.anchors import LARGEST_STRIDE
from rsna_lumbar.runtime.core.errors import BundleError
from rsna_lumbar.runtime.core.labels import GRADES, GROUP_BY_NAME, GROUPS, Group
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
DETECTOR_FIELDS = ("classes", "size_px", "calibration", "prior", "combination", "models")

CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")


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
    preprocessing = typed(fields, "preprocessing", dict)
    refuse_unknown(preprocessing, _names(Preprocessing), "preprocessing")
    return Bundle(
        detectors=found,
        preprocessing=Preprocessing(
            low_percentile=number(preprocessing, "low_percentile"),
            high_percentile=number(preprocessing, "high_percentile"),
            pad_value=typed(preprocessing, "pad_value", int),
        ),
        calibration_aim=_aim(fields),
        made_with=dict(typed(fields, "made_with", dict)),
        window_from=_window_from(fields.get("window")),
    )


def _names(kind: type[Preprocessing | Calibration | Model]) -> tuple[str, ...]:
    return tuple(one.name for one in dataclass_fields(kind))


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
    calibration = typed(fields, "calibration", dict)
    refuse_unknown(calibration, _names(Calibration), f"the calibration of {group.name}")
    combination = typed(fields, "combination", str)
    if combination not in COMBINATIONS:
        raise ValueError(f"combination {combination!r} is none of {', '.join(COMBINATIONS)}")
    models = tuple(_model(model) for model in typed(fields, "models", list))
    if not models:
        raise ValueError(f"{group.name} has no model")
    return Detector(
        group=group,
        size_px=_size(fields),
        calibration=Calibration(
            temperature=number(calibration, "temperature"),
            bias=_grades(typed(calibration, "bias", list)),
            floor=number(calibration, "floor"),
        ),
        prior=_prior(group, typed(fields, "prior", list)),
        combination=combination,
        models=models,
    )


def _model(fields: Any) -> Model:
    require_object(fields, "models")
    refuse_unknown(fields, _names(Model), "a model")
    files = tuple(_file(file) for file in typed(fields, "files", list))
    if not files:
        raise ValueError("a model has no file")
    precision = typed(fields, "precision", str)
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    parity = fields["parity"]
    return Model(
        files=files,
        backend=typed(fields, "backend", str),
        target=typed(fields, "target", str),
        precision=precision,
        weights_sha256=sha256(fields, "weights_sha256"),
        engine=None if fields["engine"] is None else _engine(fields["engine"]),
        parity=None if parity == UNVERIFIED else _parity(parity),
    )


def _file(fields: Any) -> ModelFile:
    require_object(fields, "files")
    name = typed(fields, "name", str)
    if name != PurePosixPath(name).name or name in ("", ".", "..") or "\\" in name:
        raise ValueError(f"{name!r} is no plain file name")
    return ModelFile(name, sha256(fields, "sha256"))


def _engine(fields: Any) -> Engine:
    require_object(fields, "engine")
    capabilities = tuple(typed(fields, "compute_capabilities", list))
    if not all(isinstance(one, str) and CAPABILITY.fullmatch(one) for one in capabilities):
        raise ValueError("compute_capabilities must be a list such as ['8.9']")
    least, best, largest = (
        positive(fields, key) for key in ("least_batch", "best_batch", "largest_batch")
    )
    if not least <= best <= largest:
        raise ValueError("the batch sizes of an engine must not fall")
    return Engine(typed(fields, "version", str), capabilities, least, best, largest)


def _parity(fields: Any) -> Parity:
    require_object(fields, "parity")
    metric = None if fields["metric"] is None else typed(fields, "metric", list)
    if metric is not None and len(metric) != 2:
        raise ValueError("metric must be two numbers")
    ms = fields["ms_per_slice"]
    return Parity(
        reference=typed(fields, "reference", str),
        source=typed(fields, "source", str),
        slices=positive(fields, "slices"),
        rows=typed(fields, "rows", int),
        peak=number(fields, "peak"),
        probability=number(fields, "probability"),
        probability_p999=number(fields, "probability_p999"),
        changed_rows=typed(fields, "changed_rows", int),
        metric=(finite(metric[0]), finite(metric[1])) if metric else None,
        device=typed(fields, "device", str),
        hardware=typed(fields, "hardware", str),
        ms_per_slice=None if ms is None else number(fields, "ms_per_slice"),
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
    first, second, third = map(finite, values)
    return first, second, third


def _aim(fields: Mapping[str, Any]) -> str:
    aim = typed(fields, "calibration_aim", str)
    if aim not in CALIBRATION_AIMS:
        raise ValueError(f"calibration_aim {aim!r} is none of {', '.join(CALIBRATION_AIMS)}")
    return aim


def _size(fields: Mapping[str, Any]) -> int:
    size_px = positive(fields, "size_px")
    if size_px % LARGEST_STRIDE:
        raise ValueError(f"size_px must be a multiple of {LARGEST_STRIDE}")
    return size_px
