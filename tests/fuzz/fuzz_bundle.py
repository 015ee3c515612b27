"""Fuzz the reader of bundles: any bytes are a manifest, or refused in one line.

    python tests/fuzz/fuzz_bundle.py CORPUS [-runs=N] [-max_total_time=SECONDS] ...   (libFuzzer's)

CORPUS is a folder with a ``bundle.json`` to begin with; what is found interesting is added to it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rsna_lumbar", "json"]):
    from rsna_lumbar.runtime.bundle.manifest import read_bundle
    from rsna_lumbar.runtime.bundle.records import MANIFEST
    from rsna_lumbar.runtime.bundle.store import read_model
    from rsna_lumbar.runtime.core.errors import BundleError


def main() -> None:
    """Hand over to libFuzzer."""
    with tempfile.TemporaryDirectory(prefix="rsna-lumbar-") as name:
        folder = Path(name)

        def one_input(content: bytes) -> None:
            (folder / MANIFEST).write_bytes(content)
            try:
                bundle = read_bundle(folder)
                for _, model in bundle.models:
                    read_model(folder, model)
            except BundleError as error:
                assert "\n" not in str(error)

        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
