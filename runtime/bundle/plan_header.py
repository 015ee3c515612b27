"""Read the header of a TensorRT plan (its first bytes) without TensorRT.

Deserialising a plan runs its code, and a plan runs only in the version that built it, so the header
is checked first. All numbers are little-endian:

    bytes    content
    0-3      magic: 0x74727466 in plans of TensorRT, 0x74727476 in plans of TensorRT-RTX
    4-7      layout of the header, 0
    16-23    length of the plan in bytes
    24-27    version: major, minor, patch, build, one byte each

NVIDIA's trtexec reads magic, layout and version of TensorRT plans this way. The magic of
TensorRT-RTX and the length were observed in plans of TensorRT-RTX 1.7.1. No TensorRT plan was
available, so the only check on the length is that the file is not shorter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rsna_lumbar.runtime.core.errors import BackendError

MAGICS = {0x74727466: "tensorrt", 0x74727476: "tensorrt-rtx"}
LAYOUT = 0
HEADER = struct.Struct("<II8xQ4B")  # magic, layout, length, version


class PlanHeaderError(BackendError):
    """The bytes do not begin like a plan, or the plan is cut off."""


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """The first bytes of a plan."""

    library: str  # "tensorrt" or "tensorrt-rtx"
    version: str  # version of the library that built the plan, four numbers
    length: int  # length of the plan in bytes, as its header states it


def require_plan(content: bytes, library: str, version: str) -> None:
    """Check that a file is a plan of this library and version, as the manifest says.

    Raises:
        PlanHeaderError: it is not. The caller adds the file name.
    """
    header = read_plan_header(content)
    if (header.library, header.version) != (library, version):
        raise PlanHeaderError(
            f"was built by {header.library} {header.version}, its manifest says {library} {version}"
        )


def read_plan_header(content: bytes) -> PlanHeader:
    """Read the header of a plan, given its complete content.

    Raises:
        PlanHeaderError: too short, not a plan, another layout, or cut off. The caller adds the file
            name.
    """
    if len(content) < HEADER.size:
        raise PlanHeaderError(
            f"is no engine: it has {len(content)} bytes, a plan's header alone has {HEADER.size}"
        )
    magic, layout, length, *version = HEADER.unpack_from(content)
    if magic not in MAGICS:
        raise PlanHeaderError(
            f"is no engine: it begins with {magic:#010x}, which is no TensorRT plan"
        )
    if layout != LAYOUT:
        raise PlanHeaderError(
            f"is no engine of a known kind: its header has layout {layout}, only {LAYOUT} is known"
        )
    if len(content) < length:
        raise PlanHeaderError(f"is no engine: it is cut off: {len(content)} of {length} bytes")
    return PlanHeader(MAGICS[magic], ".".join(map(str, version)), length)
