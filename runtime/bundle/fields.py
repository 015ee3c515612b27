"""Checks for the fields of a manifest, and the conversion of format 2 manifests to format 3.

A damaged field raises ValueError, KeyError or TypeError; a field of a later format version raises
NewerFieldError. The caller that reads the bundle adds the file name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from rsna_lumbar.runtime.core.labels import GROUPS

FORMAT_VERSION = 3
HEX_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


class NewerFieldError(Exception):
    """The manifest contains something that this version cannot honour; the message names it."""


def as_current(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert a format 2 manifest to format 3; groups and class names may be absent there."""
    if fields["format_version"] == FORMAT_VERSION:
        return fields
    detectors = typed(fields, "detectors", dict)
    for group in GROUPS:
        require_object(detectors[group.name], f"detectors.{group.name}")
        typed(detectors[group.name], "classes", list)
    return fields


def refuse_unknown(fields: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Refuse fields of a later version: ignoring them could change the scores.

    Raises:
        NewerFieldError: an unknown field is present and not null.
    """
    unknown = sorted(set(fields) - set(known))
    meant = [name for name in unknown if fields[name] is not None]
    if meant:
        raise NewerFieldError(f"{where} has {', '.join(map(repr, meant))}")


def require_object(fields: Any, name: str) -> None:
    """Check that a value is a JSON object."""
    if not isinstance(fields, dict):
        raise ValueError(f"{name} must be an object")


def typed(fields: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """A field of this type; booleans do not count as numbers."""
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
    """A field that is an integer of at least 1."""
    value = typed(fields, key, int)
    if value < 1:
        raise ValueError(f"{key} must be at least 1")
    return value
