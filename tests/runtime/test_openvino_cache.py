"""Compiled models are kept, checked before they are loaded, and never needed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from rsna_lumbar.runtime.backends import openvino_cache
from rsna_lumbar.runtime.backends.openvino_cache import cache_folder, compiled_once

DEPENDS = (b"model", b"options")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


class Compiled:
    """A compiled model, and how it came about."""

    def __init__(self, how: str, content: bytes = b"compiled") -> None:
        self.how, self.content = how, content

    def export_model(self) -> io.BytesIO:
        return io.BytesIO(self.content)


def load(blob: np.ndarray) -> Compiled:
    return Compiled("loaded", blob.tobytes())


def make(*depends_on: bytes) -> str:
    made: Compiled = compiled_once(depends_on or DEPENDS, lambda: Compiled("compiled"), load)
    assert made.content == b"compiled"
    return made.how


def test_compiled_once_and_loaded_then(folder: Path) -> None:
    assert [make(), make(), make()] == ["compiled", "loaded", "loaded"]
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700 and b"compiled" in file.read_bytes()


def test_all_that_it_depends_on_counts() -> None:
    for depends_on in (DEPENDS, (b"other", b"options"), (b"model", b"other"), (b"modeloptions",)):
        assert [make(*depends_on), make(*depends_on)] == ["compiled", "loaded"]


def test_every_damaged_file_is_made_again(folder: Path) -> None:
    make()
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [
        whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        for place in range(len(whole))
    ]
    for content in (*damaged, whole + b"x"):
        file.write_bytes(content)
        assert [make(), make()] == ["compiled", "loaded"]
        assert file.read_bytes() == whole


def test_what_openvino_will_not_load_is_made_again() -> None:
    def refuse(_: np.ndarray) -> Compiled:
        raise RuntimeError("of another version")

    make()
    assert compiled_once(DEPENDS, lambda: Compiled("again"), refuse).how == "again"


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_no_cache_where_others_could_write(folder: Path, mode: int) -> None:
    folder.mkdir(parents=True)
    folder.chmod(mode)
    assert [make(), make()] == ["compiled", "compiled"]
    assert list(folder.iterdir()) == []


def test_no_cache_where_there_is_no_folder(folder: Path) -> None:
    folder.parent.parent.mkdir(parents=True)
    folder.parent.write_text("a file")
    assert [make(), make()] == ["compiled", "compiled"]


def test_a_disk_that_is_full_costs_only_the_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(openvino_cache, "write_atomically", fail)
    assert [make(), make()] == ["compiled", "compiled"]


def test_the_newest_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_cache, "KEPT", 3)
    for number in range(5):
        make(b"%d" % number)
    assert len(list(folder.glob("*.blob"))) == 3
    assert make(b"4") == "loaded"
