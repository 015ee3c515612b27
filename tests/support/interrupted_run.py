"""``rsna-run`` with a chunk for each study, which ends as if killed after its first chunk."""

from __future__ import annotations

import os
from typing import Any

from rsna_lumbar.runtime.cli import main
from rsna_lumbar.runtime.run.output_files import Results
from rsna_lumbar.runtime.run.request import Sizes

ENDED = 99
end_chunk = Results.end_chunk


def end_after(*given: Any) -> None:
    end_chunk(*given)
    os._exit(ENDED)


if __name__ == "__main__":
    Results.end_chunk = end_after  # type: ignore[method-assign, assignment]
    main(given=Sizes(studies_a_chunk=1))
