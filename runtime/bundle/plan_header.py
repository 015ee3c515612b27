"""What a TensorRT plan says of itself, read from its first bytes without TensorRT.

Deserialising a plan runs its code, and a plan runs only in the version that built it, so this is
asked first. All numbers are little-endian:

    bytes    what
    0-3      magic: 0x74727466 in plans of TensorRT, 0x74727476 in plans of TensorRT-RTX
    4-7      layout of the header, 0
    16-23    length of the plan in bytes
    24-27    version: major, minor, patch, build, one byte each

NVIDIA's trtexec reads magic, layout and version of TensorRT's plans so. The magic of TensorRT-RTX
and the length were seen in plans of TensorRT-RTX 1.7.1; no plan of TensorRT was at hand, so all
that is asked of the length is that there are not fewer bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rsna_lumbar.runtime.core.errors import BackendError

MAGICS = {0x74727466: "tensorrt", 0x74727476: "tensorrt-rtx"}
LAYOUT = 0
HEADER = struct.Struct("<II8xQ4B")  # magic, layout, length, version


class PlanHeaderError(BackendError):
    """Bytes that do not begin as a plan does, or a plan that is cut off."""


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """The first bytes of a plan."""

    library: str  # "tensorrt" or "tensorrt-rtx"
    version: str  # of the library that built it, four numbers
    length: int  # bytes of the plan, as it says itself


def read_plan_header(content: bytes) -> PlanHeader:
    """Read the header of a plan, given whole.

    Raises:
        PlanHeaderError: too short, no plan, another layout, or cut off; the caller names the file.
    """
    if len(content) < HEADER.size:
        raise PlanHeaderError(
            f"it has {len(content)} bytes, the header of a plan alone has {HEADER.size}"
        )
    magic, layout, length, *version = HEADER.unpack_from(content)
    if magic not in MAGICS:
        raise PlanHeaderError(f"it begins with {magic:#010x}, which is no TensorRT plan")
    if layout != LAYOUT:
        raise PlanHeaderError(f"its header has layout {layout}, only {LAYOUT} is known")
    if len(content) < length:
        raise PlanHeaderError(f"it is cut off: {len(content)} of {length} bytes")
    return PlanHeader(MAGICS[magic], ".".join(map(str, version)), length)
