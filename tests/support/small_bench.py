"""``rsna-bench`` that tries one small product of matrices for the machine's peak, not large ones.

Those take half a minute.
"""

from __future__ import annotations

from functools import partial

from rsna_lumbar.benchmarks.cli import main
from rsna_lumbar.benchmarks.model import run

if __name__ == "__main__":
    run.find_peaks = partial(run.find_peaks, shapes=((64, 64, 64),), tries=1)
    main()
