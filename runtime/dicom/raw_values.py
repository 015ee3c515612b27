"""Values of a parsed header in their plainest form, read without pydicom's conversion.

pydicom parses the file, but converts a value only when it is accessed. This takes 10 microseconds
per value, as much as parsing five elements. A slice needs about fifteen values. Values in the
usual form are therefore read directly from pydicom's raw elements. ``None`` leaves an element to
pydicom: it is absent, already converted, empty, of another VR, or in any other form.
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
    """The numbers of a DS, or the single number of an IS or US."""
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
    """The single number of an IS or US."""
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
