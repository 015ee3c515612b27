"""A bounded run of each fuzzer in ``tests/fuzz``: short by itself, a minute each with -m slow."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from packing import end_of_meta, zipped
from toys import SYNTAXES, slice_pixels, write_as, write_toy_bundle

if find_spec("atheris") is None:
    pytest.skip("atheris is not installed: nothing was fuzzed", allow_module_level=True)

FUZZERS = Path(__file__).parent.parent / "fuzz"


def slices(corpus: Path) -> None:
    for number, syntax in enumerate(SYNTAXES):
        path = write_as(corpus / f"{number}.dcm", slice_pixels(number, (12, 10)), syntax)
        content = path.read_bytes()
        (corpus / f"{number}.gz").write_bytes(gzip.compress(content))
        (corpus / f"{number}.zip").write_bytes(zipped([("a", content), ("b.gz", b"")]))
        (corpus / f"{number} alone").write_bytes(content[end_of_meta(content) :])


def manifest(corpus: Path) -> None:
    write_toy_bundle(corpus / "made")
    (corpus / "made" / "bundle.json").rename(corpus / "bundle.json")
    shutil.rmtree(corpus / "made")


def fuzz(name: str, corpus: Path, seconds: int) -> str:
    command = [sys.executable, str(FUZZERS / name), str(corpus), f"-max_total_time={seconds}"]
    done = subprocess.run(
        [*command, "-max_len=20000", "-timeout=300", "-rss_limit_mb=0", "-seed=1"],
        capture_output=True,
        text=True,
        cwd=corpus,
        timeout=seconds + 1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


FILL = {"fuzz_slices.py": slices, "fuzz_bundle.py": manifest}


@pytest.mark.parametrize("name", FILL)
@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_nothing_unexpected_is_raised(name: str, seconds: int, tmp_path: Path) -> None:
    fill: Callable[[Path], None] = FILL[name]
    fill(tmp_path)
    said = fuzz(name, tmp_path, seconds)
    assert "Done" in said
