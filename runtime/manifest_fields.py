"""Fields of a manifest: what each must be, and manifests of the format before in today's words.

Everything here raises ValueError, KeyError or TypeError; the reader of the bundle names the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

FORMAT_VERSION = 2
HEX_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


def as_current(fields: dict[str, Any]) -> dict[str, Any]:
    """A manifest of format 1 in the words of format 2: one float32 ONNX file a model."""
    if fields["format_version"] == FORMAT_VERSION:
        return fields
    detectors = typed(fields, "detectors", dict)
    for detector in detectors.values():
        require_object(detector, "detectors")
        detector["models"] = [_current_model(one) for one in typed(detector, "models", list)]
    return fields


def _current_model(fields: Any) -> dict[str, Any]:
    require_object(fields, "models")
    parity = typed(fields, "parity", dict)
    return {
        **{key: fields[key] for key in ("backend", "target", "precision", "weights_sha256")},
        "files": [{"name": fields["file"], "sha256": fields["sha256"]}],
        "engine": None,
        "parity": {
            **{key: parity[key] for key in ("source", "slices", "peak", "probability")},
            "reference": "pytorch",
            "rows": 0,
            "probability_p999": parity["probability"],
            "changed_rows": 0,
            "metric": None,
            "device": "cpu",
            "hardware": "unknown",
            "ms_per_slice": None,
        },
    }


def require_object(fields: Any, name: str) -> None:
    """A JSON object."""
    if not isinstance(fields, dict):
        raise ValueError(f"{name} must be an object")


def typed(fields: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """A field of that type; True and False are no numbers."""
    value = fields[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key} must be {kind.__name__}")
    return value


def number(fields: Mapping[str, Any], key: str) -> float:
    """A field that is a finite number."""
    return finite(fields[key], key)


def finite(value: Any, key: str = "value") -> float:
    """A finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{key} must be a finite number")
    return float(value)


def sha256(fields: Mapping[str, Any], key: str) -> str:
    """A field that is a SHA-256 in hexadecimal digits."""
    value = typed(fields, key, str)
    if not HEX_SHA256.fullmatch(value):
        raise ValueError(f"{key} must be 64 hexadecimal digits")
    return value


def positive(fields: Mapping[str, Any], key: str) -> int:
    """A field that is a whole number from 1 on."""
    value = typed(fields, key, int)
    if value < 1:
        raise ValueError(f"{key} must be at least 1")
    return value
