"""The plain header of a plan: what is read, and that nothing else comes of any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsna_lumbar.runtime.bundle.plan_header import PlanHeader, PlanHeaderError, read_plan_header

# The first 64 bytes of a plan that TensorRT-RTX 1.7.1.116 made of a score graph on a machine
# without a GPU, for compute capabilities 8.0 and 8.9; the plan had 15338156 bytes.
RTX_HEADER = bytes.fromhex(
    "76747274 00000000 02000000 00000000 ac0aea00 00000000 01070174 76747274"
    "0a000000 00000000 00000000 00000000 00000000 00000000 c057a000 00000000"
)
RTX_LENGTH = 15338156
TENSORRT_MAGIC = bytes.fromhex("66747274")


def plan(header: bytes = RTX_HEADER, length: int = RTX_LENGTH) -> bytes:
    return header + bytes(length - len(header))


def test_a_real_header_is_read() -> None:
    assert read_plan_header(plan()) == PlanHeader("tensorrt-rtx", "1.7.1.116", RTX_LENGTH)


def test_the_magic_tells_the_library() -> None:
    header = TENSORRT_MAGIC + RTX_HEADER[4:24] + bytes((11, 4, 0, 106))
    assert read_plan_header(plan(header)) == PlanHeader("tensorrt", "11.4.0.106", RTX_LENGTH)


def test_bytes_behind_the_plan_do_no_harm() -> None:
    assert read_plan_header(plan() + b"more").length == RTX_LENGTH


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has 0 bytes"),
        (RTX_HEADER[:27], "it has 27 bytes"),
        (b"\x08\x08ONNX" + bytes(40), "begins with 0x4e4f0808"),
        (RTX_HEADER[:4] + b"\x01" + plan()[5:], "layout 1"),
        (plan()[:-1], "cut off: 15338155 of 15338156 bytes"),
        (RTX_HEADER, "cut off: 64 of 15338156 bytes"),
    ],
)
def test_what_is_no_whole_plan_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(PlanHeaderError, match=reason):
        read_plan_header(content)


@given(
    st.binary(max_size=80)
    | st.builds(
        lambda magic, rest: magic + rest,
        st.sampled_from((RTX_HEADER[:4], TENSORRT_MAGIC, RTX_HEADER[:8])),
        st.binary(max_size=80),
    )
)
def test_any_bytes_give_a_record_or_the_error(content: bytes) -> None:
    try:
        header = read_plan_header(content)
    except PlanHeaderError:
        return
    assert header.length <= len(content)
    assert header.version == ".".join(map(str, content[24:28]))
