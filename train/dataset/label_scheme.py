"""Which labels of an image are taught: every one, or the severe ones alone where there is one.

``all`` keeps every label ("Modeling 1" of the method). ``mask-non-severe`` ("Modeling 2") removes
the non-severe labels of an image that carries several of which one at least is severe, so that
severe degeneration is not drowned. What becomes of an image with several labels and none severe
is chosen apart: ``keep`` them, ``drop`` the image, or make it ``background`` (the method taken
literally: an image without labels teaches that nothing is there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rsna_lumbar.runtime.core.labels import SEVERE
from rsna_lumbar.train.dataset.annotations import LeftOut

SCHEMES = ("all", "mask-non-severe")
# What the labels of an image with several and none severe are left out for; '' keeps them.
NONE_SEVERE = {
    "keep": "",
    "drop": LeftOut.NONE_SEVERE.value,
    "background": LeftOut.BACKGROUND.value,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScheme:
    """A choice of SCHEMES and, for masking, of NONE_SEVERE."""

    name: str = "all"
    none_severe: str = "keep"

    def __post_init__(self) -> None:
        if self.name not in SCHEMES:
            raise ValueError(f"no label scheme {self.name!r}: {', '.join(SCHEMES)}")
        if self.none_severe not in NONE_SEVERE:
            raise ValueError(
                f"none-severe cannot be {self.none_severe!r}: {', '.join(NONE_SEVERE)}"
            )
        if self.name == "all" and self.none_severe != "keep":
            raise ValueError(f"none-severe {self.none_severe} needs labels mask-non-severe")


def mask(grades: Sequence[int], scheme: LabelScheme) -> tuple[str, ...]:
    """For each label of one image '' where it is taught, else the reason why not."""
    if scheme.name == "all" or len(grades) < 2:
        return ("",) * len(grades)
    if SEVERE in grades:
        return tuple("" if grade == SEVERE else LeftOut.MASKED.value for grade in grades)
    return (NONE_SEVERE[scheme.none_severe],) * len(grades)
