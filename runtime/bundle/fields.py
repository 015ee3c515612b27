"""Checks for the fields of a manifest, and the conversion of format 2 manifests to format 3.

A damaged field raises ValueError, KeyError or TypeError; a field of a later format version raises
NewerFieldError. The caller that reads the bundle adds the file name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

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


def record(kind: type[T], fields: Any, name: str) -> T:
    """A dataclass from the JSON object with its fields; each must have the type it is declared as.

    Further fields of the object are ignored.
    """
    require_object(fields, name)
    hints = get_type_hints(kind)
    return kind(**{key: as_declared(fields[key], hint, key) for key, hint in hints.items()})


def as_declared(value: Any, hint: Any, name: str) -> Any:
    """A JSON value as a record, a tuple, a finite number, a text, or None if that is allowed."""
    if isinstance(hint, UnionType):
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
        return None if value is None else as_declared(value, hint, name)
    if get_origin(hint) is tuple:
        return _tuple(value, get_args(hint), name)
    if isinstance(hint, type) and is_dataclass(hint):
        return record(hint, value, name)
    if hint is float:
        return _finite(value, name)
    return typed({name: value}, name, hint)


def typed(fields: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """A field of this type; booleans do not count as numbers."""
    value = fields[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key} must be {kind.__name__}")
    return value


def one_of(value: T, allowed: Collection[T], name: str) -> T:
    """The value, which must be one of these."""
    if value not in allowed:
        raise ValueError(f"{name} {value!r} is none of {', '.join(map(str, allowed))}")
    return value


def require_sha256(digits: str, name: str) -> None:
    """Check that it is a SHA-256 in hexadecimal digits."""
    if not HEX_SHA256.fullmatch(digits):
        raise ValueError(f"{name} must be 64 hexadecimal digits")


def _tuple(value: Any, kinds: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list")
    if kinds[-1] is ...:
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise ValueError(f"{name} must have {len(kinds)} values")
    return tuple(as_declared(one, kind, name) for one, kind in zip(value, kinds, strict=True))


def _finite(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number")
    return float(value)
