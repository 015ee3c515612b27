"""Which of the three kinds a series is, told from its header where no table says so.

Orientation first (which patient axis the slice's normal follows), then echo time, then the
description where times are missing. Echo times in lumbar protocols: T1 spin echo 8-20 ms, T1
FLAIR up to 25 ms; STIR 30-80 ms; T2 80-130 ms. So 30 ms parts T1 from T2 and STIR.
"""

from __future__ import annotations

import re

import numpy as np

from rsna_lumbar.runtime.headers import Header, Vector
from rsna_lumbar.runtime.labels import FORAMINAL, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.reasons import Reason

LONGEST_T1_ECHO_MS = 30.0
# Axial stacks are tilted to the disc, L5/S1 by up to about 50 degrees: cos 60 = 0.5.
AXIAL_COSINE = 0.5
NOT_ANATOMY = re.compile(r"\b(LOCALI[SZ]ER|SCOUT|SURVEY|PROJECTION|ADC|SUBTRACT\w*)\b")


def reader_of(header: Header) -> Group | Reason:
    """The group whose series this is, or why it is nobody's.

    ``KIND_NOT_NEEDED``: a localizer, a coronal or an axial T1 series, a derived map.
    ``KIND_UNKNOWN``: no orientation, or neither an echo time nor a telling description.
    """
    if _not_anatomy(header):
        return Reason.KIND_NOT_NEEDED
    if header.orientation is None:
        return Reason.KIND_UNKNOWN
    plane = plane_of(header.orientation)
    if plane == "coronal":
        return Reason.KIND_NOT_NEEDED
    long_echo = _has_long_echo(header)
    if long_echo is None:
        return Reason.KIND_UNKNOWN
    if plane == "sagittal":
        return SPINAL if long_echo else FORAMINAL
    return SUBARTICULAR if long_echo else Reason.KIND_NOT_NEEDED


def plane_of(orientation: Vector) -> str:
    """``sagittal``, ``axial`` or ``coronal`` from the direction cosines of rows and columns."""
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    if normal[0] >= max(normal[1], normal[2]):
        return "sagittal"
    return "axial" if normal[2] >= AXIAL_COSINE else "coronal"


def _not_anatomy(header: Header) -> bool:
    words = " ".join((*header.image_type, header.description.upper())).replace("_", " ")
    return NOT_ANATOMY.search(words) is not None


def _has_long_echo(header: Header) -> bool | None:
    if header.echo_time_ms:
        return header.echo_time_ms >= LONGEST_T1_ECHO_MS
    description = header.description.upper()
    if "T2" in description or "STIR" in description:
        return True
    return False if "T1" in description else None
