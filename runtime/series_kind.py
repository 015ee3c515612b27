"""Which of the three kinds a series is, told from its header where no table says so.

Orientation first (which patient axis the slice's normal follows), then the times, then the
description where the times leave it open. In lumbar protocols, in milliseconds:

                  echo      repetition  inversion
    T1 spin echo  8-20      400-900
    T1 FLAIR      8-25      1800-2500   700-1100
    T2            80-130    2500-6000
    STIR          20-80     2500-6000   130-250
    density       10-30     2000-4000                  read by nobody
"""

from __future__ import annotations

import re

import numpy as np

from rsna_lumbar.runtime.headers import Header, Vector
from rsna_lumbar.runtime.labels import FORAMINAL, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.reasons import Reason

LONGEST_T1_ECHO_MS = 30.0
LONGEST_T1_REPETITION_MS = 1500.0  # without inversion
LONGEST_STIR_INVERSION_MS = 400.0
# Axial stacks are tilted to the disc, L5/S1 by up to about 50 degrees: cos 60 = 0.5.
AXIAL_COSINE = 0.5
NOT_ANATOMY = re.compile(r"\b(LOCALI[SZ]ER|SCOUT|SURVEY|PROJECTION|ADC|SUBTRACT\w*)\b")


def reader_of(header: Header) -> Group | Reason:
    """The group whose series this is, or why it is nobody's.

    ``KIND_NOT_NEEDED``: a localizer, a coronal or an axial T1 series, a derived map.
    ``KIND_UNKNOWN``: no orientation, or neither times nor a description that tell.
    """
    if _not_anatomy(header):
        return Reason.KIND_NOT_NEEDED
    if header.orientation is None:
        return Reason.KIND_UNKNOWN
    plane = plane_of(header.orientation)
    if plane == "coronal":
        return Reason.KIND_NOT_NEEDED
    t2 = _is_t2_or_stir(header)
    if t2 is None:
        return Reason.KIND_UNKNOWN
    if plane == "sagittal":
        return SPINAL if t2 else FORAMINAL
    return SUBARTICULAR if t2 else Reason.KIND_NOT_NEEDED


def plane_of(orientation: Vector) -> str:
    """``sagittal``, ``axial`` or ``coronal`` from the direction cosines of rows and columns."""
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    if normal[0] >= max(normal[1], normal[2]):
        return "sagittal"
    return "axial" if normal[2] >= AXIAL_COSINE else "coronal"


def _not_anatomy(header: Header) -> bool:
    words = " ".join((*header.image_type, header.description.upper())).replace("_", " ")
    return NOT_ANATOMY.search(words) is not None


def _is_t2_or_stir(header: Header) -> bool | None:
    """True for T2 and STIR, False for T1, None where neither can be told."""
    by_times = _told_by_times(header)
    if by_times is not None:
        return by_times
    description = header.description.upper()
    if "T2" in description or "STIR" in description:
        return True
    return False if "T1" in description else None


def _told_by_times(header: Header) -> bool | None:
    if not header.echo_time_ms:
        return None
    if header.echo_time_ms >= LONGEST_T1_ECHO_MS:
        return True
    if header.inversion_time_ms:
        return header.inversion_time_ms < LONGEST_STIR_INVERSION_MS
    long = (header.repetition_time_ms or 0) > LONGEST_T1_REPETITION_MS
    return None if long else False
