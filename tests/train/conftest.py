"""What several tests of training find made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rsna_lumbar.train.dataset import contact_sheet


@pytest.fixture(scope="module")
def plain_sheets() -> Iterator[None]:
    """Contact sheets are written as ever, but what is drawn on them takes no second."""
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contact_sheet, "draw_contact_sheet", lambda *_, **__: Figure((1, 1)))
        yield
