"""Values of a parsed header in their plainest written form, read without pydicom's conversion.

pydicom parses, and converts a value when it is asked for: 10 microseconds each, as much as five
elements take to parse. A slice needs some fifteen values, so these are read from pydicom's raw
elements where they are written as nearly everybody writes them. ``None`` leaves an element to
pydicom: absent, already converted, empty, of another VR, or written in any other way.
"""

from __future__ import annotations

import re
from functools import cache

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

# The plainest forms of a value (PS3.5 6.2), padding included.
_DECIMALS = re.compile(rb"[ 0-9.eE+\-\\]+")
_INTEGER = re.compile(rb" *[+-]?[0-9]{1,12} *")
_CODE = re.compile(rb"([A-Z0-9_.]+)[ \0]?")


def plain_numbers(dataset: Dataset, keyword: str) -> tuple[float, ...] | None:
    """The numbers of a DS, or the one number of an IS or US."""
    tag, vr = tag_and_vr(keyword)
    raw = dataset.get_item(tag, keep_deferred=True)
    if not isinstance(raw, RawDataElement) or raw.VR not in (vr, None) or not raw.value:
        return None
    if vr == "US":
        order = "little" if raw.is_little_endian else "big"
        return (int.from_bytes(raw.value, order),) if len(raw.value) == 2 else None
    if vr == "IS":
        return (int(raw.value),) if _INTEGER.fullmatch(raw.value) else None
    if vr != "DS" or not _DECIMALS.fullmatch(raw.value):
        return None
    try:
        return tuple(map(float, raw.value.split(b"\\")))
    except ValueError:
        return None


def plain_integer(dataset: Dataset, keyword: str) -> int | None:
    """The one number of an IS or US."""
    numbers = plain_numbers(dataset, keyword)
    return None if numbers is None else int(numbers[0])


def plain_text(dataset: Dataset, keyword: str) -> str | None:
    """A single CS or UI."""
    tag, vr = tag_and_vr(keyword)
    raw = dataset.get_item(tag, keep_deferred=True)
    if not isinstance(raw, RawDataElement) or raw.VR not in (vr, None) or vr not in ("CS", "UI"):
        return None
    plain = _CODE.fullmatch(raw.value or b"")
    return plain[1].decode("ascii") if plain else None


@cache
def tag_and_vr(keyword: str) -> tuple[BaseTag, str]:
    tag = Tag(keyword)
    return tag, dictionary_VR(tag)
