"""Why something was not scored as intended: one reason code each, all of them reported."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Reason codes, as written to the run manifest and the evidence file."""

    # files
    NOT_DICOM = "not_dicom"
    NOT_MR_IMAGE = "not_mr_image"
    UNREADABLE = "unreadable"
    # it may contain slices; they are read once it is unpacked
    ARCHIVE_NOT_READ = "archive_not_read"
    NO_PIXELS = "no_pixels"
    NOT_GREY = "not_grey"
    TOO_LARGE = "too_large"
    UNKNOWN_TRANSFER_SYNTAX = "unknown_transfer_syntax"
    BAD_PIXELS = "bad_pixels"
    DECODER_FAILED = "decoder_failed"  # the decoder crashed, or did not answer in time
    OUTSIDE_SERIES = "outside_series"  # an MR image outside the folders of the challenge's layout
    OTHER_PLANE = "other_plane"  # for example a localizer inside a series of another orientation
    ZERO_TAIL = "zero_tail"  # scored, but only its last rows are zeros: possibly half copied
    DUPLICATE = "duplicate"  # the same instance and pixels as another file of its set
    # series
    KIND_NOT_NEEDED = "kind_not_needed"
    KIND_UNKNOWN = "kind_unknown"
    # another series of this kind shows the same anatomy, and was chosen
    SAME_ANATOMY = "same_anatomy"
    SERIES_NOT_FOUND = "series_not_found"
    NO_DETECTOR = "no_detector"  # the bundle has no detector for its group
    # studies and their sets
    # UIDs alone did not tell patients, studies or series apart: how they were grouped
    REGROUPED = "regrouped"
    SERIES_MISSING = "series_missing"
    NO_READABLE_SLICE = "no_readable_slice"
    NO_SERIES_TO_SCORE = "no_series_to_score"
    # scoring by views: no slice shows this level, whose rows are the prior's
    LEVEL_NOT_COVERED = "level_not_covered"
    # scoring by views: positions do not tell sides or levels, so every slice spoke for all of them
    GEOMETRY_MISSING = "geometry_missing"


# Files that are not input of a run: counted and listed, but not a fault of the run.
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


# Files that were used but may be faulty.
DOUBTS = frozenset({Reason.ZERO_TAIL})


# Consequences of other reasons; those say why.
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

    def as_json(self) -> dict[str, str]:
        return {"reason": self.reason, "what": self.what, "detail": self.detail}


class SkipFile(Exception):
    """Raised if a file is not usable; caught by the code that opened the file."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def named(self, what: str) -> Skip:
        """The same for a report, with the name of the file."""
        return Skip(self.reason, what, self.detail)
