"""Why something was not scored as it should have been: one code each, all of them reported."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Reason codes, as they stand in the run manifest and the evidence file."""

    # files
    NOT_DICOM = "not_dicom"
    NOT_MR_IMAGE = "not_mr_image"
    UNREADABLE = "unreadable"
    ARCHIVE_NOT_READ = "archive_not_read"  # it may hold slices; unpacked, they are read
    NO_PIXELS = "no_pixels"
    NOT_GREY = "not_grey"
    TOO_LARGE = "too_large"
    UNKNOWN_TRANSFER_SYNTAX = "unknown_transfer_syntax"
    BAD_PIXELS = "bad_pixels"
    DECODER_FAILED = "decoder_failed"  # crashed, or gave no answer in time
    OUTSIDE_SERIES = "outside_series"  # an MR image where the challenge's layout has no place
    OTHER_PLANE = "other_plane"  # a localizer, say, inside a series of another orientation
    ZERO_TAIL = "zero_tail"  # scored, but its last rows are zeros and no others: half a copy?
    DUPLICATE = "duplicate"  # the same instance and pixels as another file of its set
    # series
    KIND_NOT_NEEDED = "kind_not_needed"
    KIND_UNKNOWN = "kind_unknown"
    SAME_ANATOMY = "same_anatomy"  # another series of the kind shows it too, and was chosen
    SERIES_NOT_FOUND = "series_not_found"
    NO_DETECTOR = "no_detector"  # of a group that the bundle lacks
    # studies and their sets
    REGROUPED = "regrouped"  # UIDs alone did not tell patients, studies or series: what was done
    SERIES_MISSING = "series_missing"
    NO_READABLE_SLICE = "no_readable_slice"
    NO_SERIES_TO_SCORE = "no_series_to_score"


# Files of a folder that a run is not about: counted and listed, but no fault of the run.
HARMLESS = frozenset(
    {
        Reason.NOT_DICOM,
        Reason.NOT_MR_IMAGE,
        Reason.OTHER_PLANE,
        Reason.DUPLICATE,
        Reason.KIND_NOT_NEEDED,
        Reason.SAME_ANATOMY,
        Reason.REGROUPED,
        Reason.NO_DETECTOR,
    }
)


# What was used all the same.
DOUBTS = frozenset({Reason.ZERO_TAIL})


# What follows from others: these say why.
CONSEQUENCES = frozenset(
    {
        Reason.SERIES_MISSING,
        Reason.NO_READABLE_SLICE,
        Reason.NO_SERIES_TO_SCORE,
        Reason.DUPLICATE,
        Reason.REGROUPED,
    }
)


@dataclass(frozen=True, slots=True)
class Skip:
    """Something that was left out, filled in or doubted: ``what`` is a relative path or an id."""

    reason: Reason
    what: str
    detail: str = ""

    @property
    def harmless(self) -> bool:
        return self.reason in HARMLESS


class SkipFile(Exception):
    """Raised where a file turns out not to be usable; caught where the file was opened."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
