"""``prepare`` with two workers, which pauses when the main process knows of a slice.

    python paused_prepare.py ROOT OUT COUNT SIGN

COUNT: how many slices, of all groups, are in the indexes then. SIGN: a file that it makes before it
waits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from ending import DEADLINE_S

from rsna_lumbar.train.dataset.prepare import prepare
from rsna_lumbar.train.dataset.slice_images import PrepareOptions, SliceOutcome
from rsna_lumbar.train.dataset.split import Folds

if __name__ == "__main__":
    root, out, last, sign = sys.argv[1:]
    number = count(1)

    def pausing(
        outcomes: Iterable[SliceOutcome], group: str, slices: int
    ) -> Iterator[SliceOutcome]:
        for one in outcomes:
            yield one
            if next(number) == int(last):
                Path(sign).touch()
                time.sleep(DEADLINE_S)

    options = PrepareOptions(size_px=32, folds=Folds(folds=4))
    prepare(Path(root), Path(out), options, workers=2, track=pausing)
