"""Which labels of an image are used for training.

``all`` keeps every label ("Modeling 1" of the method). ``mask-non-severe`` ("Modeling 2") removes
the non-severe labels of an image that has several labels, at least one of them severe, so that
severe degeneration gets more weight. An image with several labels and none severe is handled by a
second choice: ``keep`` its labels, ``drop`` it, or make it ``background`` (the literal reading of
the method: an image without labels teaches that there is nothing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rsna_lumbar.runtime.core.labels import SEVERE
from rsna_lumbar.train.dataset.annotations import LeftOut

SCHEMES = ("all", "mask-non-severe")
# The reason to leave out the labels of an image that has several, none severe; '' keeps them.
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
            raise ValueError(f"no none-severe {self.none_severe!r}: {', '.join(NONE_SEVERE)}")
        if self.name == "all" and self.none_severe != "keep":
            raise ValueError(f"none-severe {self.none_severe} needs labels mask-non-severe")


def mask(grades: Sequence[int], scheme: LabelScheme) -> tuple[str, ...]:
    """For each label of one image the reason to leave it out, or ''."""
    if scheme.name == "all" or len(grades) < 2:
        return ("",) * len(grades)
    if SEVERE in grades:
        return tuple("" if grade == SEVERE else LeftOut.MASKED.value for grade in grades)
    return (NONE_SEVERE[scheme.none_severe],) * len(grades)
