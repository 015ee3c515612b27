"""A pool of one process, which waits for a file; see ``bad_decoders.py`` for what files may do.

python fragile_pool.py FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import bad_decoders

from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.decode import worker_pool

if __name__ == "__main__":
    worker_pool.work = bad_decoders.work
    with worker_pool.DecodingPool(1, Preprocessing(), largest_px=32) as decoder:
        decoder.submit(Path(sys.argv[1]), 32)()
