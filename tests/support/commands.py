"""``rsna-run`` as it is typed, in the process of a test."""

from __future__ import annotations

import pytest

from rsna_lumbar.runtime.cli import main


def run(*words: object) -> int:
    """Its exit code."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert isinstance(caught.value.code, int)
    return caught.value.code
