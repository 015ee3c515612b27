"""``rsna-run`` as it is typed, in the process of a test."""

from __future__ import annotations

import pytest

from rsna_lumbar.runtime.cli import main
from rsna_lumbar.runtime.run.request import Sizes

# Without --workers no process is started, which takes longer than all the rest of a small run.
HERE = Sizes(small_job=0)
SMALL_CHUNKS = Sizes(studies_a_chunk=2, small_job=0)


def run(*words: object, sizes: Sizes | None = None) -> int:
    """Its exit code."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words], given=sizes)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def run_here(*words: object, sizes: Sizes = HERE) -> int:
    """The same; files are decoded in this process."""
    return run(*words, sizes=sizes)
