"""DICOM header -> how each frame was acquired: the facts that determine the series kind.

Attributes are named by their DICOM keyword (PS3.6). An enhanced file states per frame what a
classic file states at the root. Values are looked up in the per-frame functional groups first, then
in the shared ones, then at the root (PS3.3 C.7.6.16).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from rsna_lumbar.runtime.dicom.raw_values import tag_and_vr

FRAME_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Field of an acquisition -> the keywords to read it from; the first one with a value counts.
KEYWORDS: dict[str, tuple[str, ...]] = {
    "description": ("SeriesDescription",),
    "protocol": ("ProtocolName",),
    "study_description": ("StudyDescription",),
    "requested": ("RequestedProcedureDescription",),
    "performed": ("PerformedProcedureStepDescription",),
    "body_part": ("BodyPartExamined",),
    "image_type": ("FrameType", "ImageType"),
    "sequences": ("ScanningSequence", "EchoPulseSequence"),
    "sequence_name": ("SequenceName", "PulseSequenceName"),
    "options": ("ScanOptions", "SpectrallySelectedSuppression"),
    "contrast_agent": ("ContrastBolusAgent",),
    "weighting": ("AcquisitionContrast",),
    "echo_ms": ("EchoTime", "EffectiveEchoTime"),
    "repetition_ms": ("RepetitionTime",),
    "inversion_ms": ("InversionTime", "InversionTimes"),
    "flip_angle": ("FlipAngle",),
    "b_value": ("DiffusionBValue",),
    "acquisition_type": ("MRAcquisitionType",),
    "thickness_mm": ("SliceThickness",),
}
TAGS = tuple(keyword for keywords in KEYWORDS.values() for keyword in keywords)
KEPT_ACQUISITIONS = 4096  # the files of a series usually share one acquisition


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How a frame was acquired. Texts in upper case, empty if missing; times in ms."""

    description: str = ""  # exactly as in the header
    protocol: str = ""
    study_description: str = ""
    requested: str = ""
    performed: str = ""
    body_part: str = ""
    image_type: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()  # SE, IR, GR, EP, RM; or SPIN, GRADIENT, BOTH
    sequence_name: str = ""
    options: tuple[str, ...] = ()
    contrast_agent: str = ""
    weighting: str = ""
    echo_ms: float | None = None
    repetition_ms: float | None = None
    inversion_ms: float | None = None  # 0 or None without inversion
    flip_angle: float | None = None
    b_value: float | None = None
    acquisition_type: str = ""  # 2D or 3D
    thickness_mm: float | None = None

    @property
    def has_times(self) -> bool:
        return self.echo_ms is not None or self.repetition_ms is not None


_TUPLES = ("image_type", "sequences", "options")
_NUMBERS = tuple(one.name for one in fields(Acquisition) if "None" in str(one.type))
_known: dict[tuple[object, ...], Acquisition] = {}


def acquisitions(dataset: Dataset) -> tuple[Acquisition, ...]:
    """The acquisition of each frame of a file; only one if the frames do not differ."""
    per_frame = _items(dataset, FRAME_GROUPS[1])
    shared = _items(dataset, FRAME_GROUPS[0])
    if not per_frame and not shared:
        return (_of_root(dataset),)
    below = _flat(shared[0]) if shared else {}
    found = tuple(_acquisition(dataset, {**below, **_flat(item)}) for item in per_frame)
    found = found or (_acquisition(dataset, below),)
    return found[:1] if len(set(found)) == 1 else found


def frame_value(dataset: Dataset, keyword: str, frame: int = 0) -> object:
    """A frame's value: of its own functional group, else of the shared one, else of the root."""
    for sequence, index in zip(reversed(FRAME_GROUPS), (frame, 0), strict=True):
        items = _items(dataset, sequence)
        for element in items[index] if index < len(items) else ():
            if _is_group(element) and keyword in element.value[0]:
                value = element.value[0].get(keyword)
                if value is not None:
                    return value
    return dataset.get(keyword) if tag_and_vr(keyword)[0] in dataset else None


def has_frame_groups(dataset: Dataset) -> bool:
    """Whether functional groups may state facts that the root does not."""
    return any(tag_and_vr(sequence)[0] in dataset for sequence in FRAME_GROUPS)


def _items(dataset: Dataset, sequence: str) -> Sequence[Dataset]:
    if tag_and_vr(sequence)[0] not in dataset:
        return ()
    return dataset.get(sequence) or ()


def _is_group(element: DataElement) -> bool:
    """Whether it is a functional group; Philips' private ones describe another file."""
    return element.VR == "SQ" and bool(element.value) and not element.tag.is_private


def _flat(item: Dataset) -> dict[str, object]:
    """Keyword -> value, from the first items of the sequences in a functional group."""
    return {
        inner.keyword: inner.value
        for element in item
        if _is_group(element)
        for inner in element.value[0]
        if inner.value is not None
    }


def _of_root(dataset: Dataset) -> Acquisition:
    """The acquisition of a classic file; headers with the same bytes are parsed once."""
    elements = [dataset.get_item(tag_and_vr(one)[0], keep_deferred=True) for one in TAGS]
    raw = [one for one in elements if isinstance(one, RawDataElement)]
    if len(raw) < sum(one is not None for one in elements):
        return _acquisition(dataset, {})
    key = tuple((one.tag, one.VR, one.value) for one in raw)
    found = _known.get(key)
    if found is None:
        if len(_known) >= KEPT_ACQUISITIONS:
            _known.clear()
        found = _known[key] = _acquisition(dataset, {})
    return found


def _acquisition(dataset: Dataset, of_frame: dict[str, object]) -> Acquisition:
    told: dict[str, object] = {}
    for name, keywords in KEYWORDS.items():
        values = chain(map(of_frame.get, keywords), (_root(dataset, one) for one in keywords))
        value = next(filter(_tells, values), None)
        if name in _NUMBERS:
            told[name] = _number(value)
        elif name in _TUPLES:
            told[name] = tuple(part for part in _parts(value) if part)
        else:
            told[name] = " ".join(_parts(value)).strip()
    told["description"] = str(_root(dataset, "SeriesDescription") or "").strip()
    return Acquisition(**told)  # type: ignore[arg-type]


def _root(dataset: Dataset, keyword: str) -> object:
    return dataset.get(keyword) if tag_and_vr(keyword)[0] in dataset else None


def _tells(value: object) -> bool:
    return value is not None and str(value).strip() not in ("", "[]")


def _parts(value: object) -> Iterator[str]:
    many = value if isinstance(value, MultiValue | list | tuple) else [value]
    return (str(one).strip().upper() for one in many if one is not None)


def _number(value: object) -> float | None:
    first = value[0] if isinstance(value, MultiValue | list | tuple) and value else value
    try:
        number = float(first)  # type: ignore[arg-type]
    except (ArithmeticError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
