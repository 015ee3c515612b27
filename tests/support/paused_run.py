"""``rsna-run`` in chunks of two studies, which pauses before it writes a study.

    python paused_run.py LEFT SIGN WORDS...

LEFT: how many studies are still to be written then. SIGN: a file that it makes before it waits, or
``stop``: it stops itself, and goes on when it is continued.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ending import DEADLINE_S

from rsna_lumbar.runtime import StudyScore
from rsna_lumbar.runtime.cli import main
from rsna_lumbar.runtime.inference.loaded_bundle import OpenBundle
from rsna_lumbar.runtime.run.request import Sizes
from rsna_lumbar.runtime.run.writer import Writer

really_write = Writer.write


def pausing(left: int, sign: str) -> Callable[..., None]:
    """``Writer.write`` that pauses when so many studies are left."""

    def write(
        self: Writer,
        scores: Iterable[StudyScore],
        opened: OpenBundle,
        step: Callable[[int], object],
    ) -> None:
        def paused() -> Iterator[StudyScore]:
            for score in scores:
                if len(self.stamps) == left:
                    pause(sign)
                yield score

        really_write(self, paused(), opened, step)

    return write


def pause(sign: str) -> None:
    if sign == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    Path(sign).touch()
    time.sleep(DEADLINE_S)


if __name__ == "__main__":
    left, sign, *words = sys.argv[1:]
    Writer.write = pausing(int(left), sign)  # type: ignore[method-assign]
    main(words, given=Sizes(studies_a_chunk=2))
