"""A journal gives back what was added, and nothing of what a kill or a fault left behind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsna_lumbar.runtime.run.journal import Journal

ENTRIES = [{"kind": "run", "name": "ä\n"}, {"n": 1, "list": [1.5, None]}, {"n": 2}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / ".out.journal"
    with Journal(path) as journal:
        for entry in ENTRIES:
            journal.add(entry)
    return path


def entries(path: Path) -> list[object]:
    with Journal(path) as journal:
        return list(journal.entries)


def test_entries_come_back_in_order(path: Path) -> None:
    assert entries(path) == ENTRIES
    with Journal(path) as journal:
        journal.add({"n": 3})
        assert journal.entries == [*ENTRIES, {"n": 3}]
    assert entries(path) == [*ENTRIES, {"n": 3}]


def test_a_line_that_was_cut_short_is_written_over(path: Path) -> None:
    content = path.read_bytes()
    ends = [index + 1 for index, sign in enumerate(content) if sign == ord("\n")]
    for length in range(len(content)):
        path.write_bytes(content[:length])
        whole = sum(end <= length for end in ends)
        assert entries(path) == ENTRIES[:whole]
        with Journal(path) as journal:
            journal.add({"n": "new"})
        assert entries(path) == [*ENTRIES[:whole], {"n": "new"}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    added=st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=5),
    damage=st.tuples(st.floats(0, 1), st.binary(max_size=20)),
)
def test_what_comes_back_is_a_beginning_of_what_was_added(
    tmp_path: Path, added: list[dict[str, object]], damage: tuple[float, bytes]
) -> None:
    """Whatever the entries, and whatever stands in place of the file's end."""
    path = tmp_path / ".journal"
    path.unlink(missing_ok=True)
    ends = [0]
    with Journal(path) as journal:
        for entry in added:
            journal.add(entry)
            ends.append(path.stat().st_size)
    assert entries(path) == added
    content = path.read_bytes()
    cut = int(damage[0] * len(content))
    path.write_bytes(content[:cut] + damage[1])
    found = entries(path)
    assert found == added[: len(found)]
    assert len(found) >= sum(end <= cut for end in ends) - 1


def test_nothing_from_a_changed_byte_on(path: Path) -> None:
    content = path.read_bytes()
    for index in range(len(content)):
        changed = bytearray(content)
        changed[index] ^= 1
        path.write_bytes(changed)
        line = content[:index].count(b"\n")
        assert entries(path) == ENTRIES[:line]


def test_a_line_taken_out_ends_it(path: Path) -> None:
    first, _, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + third)
    assert entries(path) == ENTRIES[:1]


def test_cleared_and_removed(path: Path) -> None:
    with Journal(path) as journal:
        journal.clear()
        assert journal.entries == []
        journal.add({"n": 9})
    assert entries(path) == [{"n": 9}]
    Journal(path).remove()
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_it_is_private_and_follows_no_link(path: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="link"):
        Journal(tmp_path / "link")
