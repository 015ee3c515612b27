"""Files are replaced whole, by one writer at a time, and a kill leaves nothing that stays."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rsna_lumbar.runtime.system.atomic_files import atomic_file, sole_user, write_atomically

KILLED = """
import os, sys
from pathlib import Path
from rsna_lumbar.runtime.system.atomic_files import atomic_file
with atomic_file(Path(sys.argv[1])) as stream:
    stream.write(b"half of what is longer than the new content")
    stream.flush()
    os._exit(9)
"""


def test_text_and_bytes(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "ä\n")
    write_atomically(tmp_path / "b", b"\xff")
    assert (tmp_path / "a").read_bytes() == "ä\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\xff"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_old_content_stays_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, "old")
    with atomic_file(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_an_exception_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as stream:
        stream.write(b"new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)])
    assert done.returncode == 9
    assert [one.name for one in tmp_path.iterdir()] == [".a.part"]
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="no locks on Windows")
def test_two_writers_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with atomic_file(path) as first:
        first.write(b"first")
        with pytest.raises(OSError, match="another process is writing it"):
            write_atomically(path, "second")
    assert path.read_text() == "first"
    write_atomically(path, "third")
    assert path.read_text() == "third"


@pytest.mark.skipif(os.name != "posix", reason="no locks on Windows")
def test_a_folder_has_one_user(tmp_path: Path) -> None:
    refused = pytest.raises(OSError, match="another process is at work in it")
    with sole_user(tmp_path), refused, sole_user(tmp_path):
        raise AssertionError("both got in")
    with sole_user(tmp_path):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_others_may_read_it_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    mask = os.umask(0o022)
    try:
        with atomic_file(path):
            assert stat.S_IMODE((tmp_path / ".a.part").stat().st_mode) == 0o600
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("safe")
    (tmp_path / ".a.part").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="a"):
        write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "victim").read_text() == "safe"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)
def test_what_somebody_else_left_aside_is_not_written_to(tmp_path: Path) -> None:
    aside = tmp_path / ".a.part"
    aside.write_text("theirs")
    aside.chmod(0o644)
    os.chown(aside, 65534, -1)
    with pytest.raises(PermissionError, match="belongs to another user") as caught:
        write_atomically(tmp_path / "a", "new")
    assert caught.value.filename == str(tmp_path / "a")
    assert (aside.read_text(), stat.S_IMODE(aside.stat().st_mode)) == ("theirs", 0o644)
    assert list(tmp_path.iterdir()) == [aside]
    os.chown(aside, 0, -1)
    write_atomically(tmp_path / "a", "new")  # no lock was left on it
    assert (tmp_path / "a").read_text() == "new"


def test_the_file_asked_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "absent" / "a", "new")
    assert caught.value.filename == str(tmp_path / "absent" / "a")
