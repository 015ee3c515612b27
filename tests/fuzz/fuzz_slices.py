"""Fuzz what reads DICOM: any bytes are header and slices, packed files, or a file to skip.

    python tests/fuzz/fuzz_slices.py CORPUS [-runs=N] [-max_total_time=SECONDS] ...   (libFuzzer's)

CORPUS is a folder with some slices to begin with; what is found interesting is added to it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rsna_lumbar", "pydicom"]):
    from rsna_lumbar.runtime.core.preprocess import Preprocessing
    from rsna_lumbar.runtime.core.reasons import SkipFile
    from rsna_lumbar.runtime.dicom.header import read_header
    from rsna_lumbar.runtime.dicom.slices import read_slices
    from rsna_lumbar.runtime.studies.scan import Walk

SIZE_PX = 32


def main() -> None:
    """Hand over to libFuzzer."""
    with tempfile.TemporaryDirectory(prefix="rsna-lumbar-") as folder:
        path = Path(folder) / "slice.dcm"

        def slices(file: Path) -> object:
            return read_slices(file, SIZE_PX, Preprocessing())

        def one_input(content: bytes) -> None:
            path.write_bytes(content)
            for file in Walk(path).below(path, []):
                for read in (read_header, slices):
                    try:
                        read(file)
                    except SkipFile as skip:
                        assert len(skip.detail) < 80

        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
