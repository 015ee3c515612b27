"""The private list of engines that were built or accepted here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rsna_lumbar.runtime.bundle.trust import (
    TrustedEngines,
    trust_engines,
    trust_list,
    trusted_engines,
)
from rsna_lumbar.runtime.core.errors import UsageError

A, B = 64 * "a", 64 * "b"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "rsna-lumbar" / "engines"


def test_nothing_is_trusted_at_first(place: Path) -> None:
    assert trust_list() == place
    assert trusted_engines() == frozenset()
    trust_engines([])
    assert not place.exists()


def test_engines_are_remembered_once(place: Path) -> None:
    trust_engines([A])
    trust_engines([B, A, B])
    assert trusted_engines() == {A, B}
    assert place.read_text() == f"{A}\n{B}\n"
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_list_that_others_can_write_is_refused(place: Path, mode: int) -> None:
    trust_engines([A])
    place.chmod(mode)
    with pytest.raises(UsageError, match="others can write it"):
        trusted_engines()
    with pytest.raises(UsageError, match="others can write it"):
        trust_engines([B])


def test_the_list_is_looked_up_when_an_engine_asks(place: Path) -> None:
    """A bundle without engines must not end over it."""
    trust_engines([A])
    place.chmod(0o666)
    lazy = TrustedEngines()
    with pytest.raises(UsageError, match="others can write it"):
        assert A in lazy
    place.chmod(0o600)
    assert A in TrustedEngines() and B not in TrustedEngines()


def test_without_a_home_nothing_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(os.path, "expanduser", str)
    assert trusted_engines() == frozenset() and A not in TrustedEngines()
    with pytest.raises(UsageError, match="cannot be written"):
        trust_engines([A])


def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    assert trusted_engines() == frozenset()
    with pytest.raises(UsageError, match=r"cannot be written .* set XDG_DATA_HOME"):
        trust_engines([A])
