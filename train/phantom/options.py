"""The options of the phantom."""

from __future__ import annotations

from dataclasses import dataclass

# The oddities of the real files, each applied to a seeded share of the studies.
QUIRKS = (
    "holes",  # instance numbers with holes, not starting at 1
    "reversed",  # instance order against anatomy: sagittal from the left, axial from S1 up
    "axial-stacks",  # one axial series of several stacks, each angled to its disc
    "axial-series",  # such stacks split over 2 to 4 series
    "mixed-sizes",  # matrices differ between and inside series, some not square
    "missing-series",  # a whole series kind is absent; its labels have no coordinates
    "empty-labels",  # empty cells in train.csv, a few of them with coordinates
    "wrong-series",  # one spinal point lies on the Sagittal T1 series
    "crlf",  # train_series_descriptions.csv with CRLF (the table, not single studies)
    "rescale-tags",  # RescaleIntercept 0 and RescaleSlope 1
    "empty-description",  # an empty SeriesDescription
    "clinical-header",  # the header of an ordinary clinical file, with valid UIDs
    "shifted",  # sagittal stacks up to 6 mm beside the midline and up to 5 degrees oblique
    "short-coverage",  # axial slices begin below L1/L2, whose labels are empty then
)
# How the stacks of real studies lie, which a phantom without cues always has for a share of them.
REAL_STACKS = frozenset({"reversed", "axial-stacks", "shifted", "short-coverage"})
# The default: headers as in the real files, and studies without oddities.
USUAL_QUIRKS = frozenset({"rescale-tags"})
_LEAST = {
    "studies": 0, "test_studies": 0, "seed": 0, "noise": 0,
    "matrix_px": 32, "slices_sagittal": 3, "slices_axial": 5,
}  # fmt: skip
_MOST = {"overlap": 0.4, "quirk_share": 1.0}  # from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomOptions:
    """Everything that decides the bytes written.

    Raises ``ValueError`` for an unknown quirk or a value out of range.
    """

    studies: int = 16  # of the train part
    test_studies: int = 0  # of the test part; 0: the submission lists the train studies instead
    seed: int = 0
    matrix_px: int = 256  # rows and columns of every slice, unless mixed-sizes changes them
    slices_sagittal: int = 15
    slices_axial: int = 30
    sagittal_fov_mm: float = 260.0
    axial_fov_mm: float = 170.0
    sagittal_spacing_mm: float = 4.0  # between slice centres; axial follows from the anatomy
    # Normal/mild, moderate, severe: the challenge's own, renormalised. A mean over the levels:
    # lower levels are worse.
    grade_frequencies: tuple[float, float, float] = (0.77, 0.16, 0.06)
    # Share of a grade's cases drawn beyond one border with a neighbouring grade: the error of an
    # ideal reader between two equally frequent neighbours. 0 (none) to 0.4.
    overlap: float = 0.05
    noise: float = 0.025  # standard deviation, as a share of the signal of fat
    quirks: frozenset[str] = USUAL_QUIRKS
    quirk_share: float = 0.5  # of studies that have a given quirk; 0 to 1
    # False: nothing beside the spine tells sides and levels, and stacks lie as REAL_STACKS says.
    cues: bool = True

    def __post_init__(self) -> None:
        unknown = sorted(self.quirks - set(QUIRKS))
        if unknown:
            raise ValueError(f"unknown quirks {unknown}: choose from {', '.join(QUIRKS)}")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more")
        for name, most in _MOST.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from 0 to {most:g}")
        shares = self.grade_frequencies
        if len(shares) != 3 or min(shares) < 0 or sum(shares) <= 0:
            raise ValueError("grade_frequencies must be three shares, not negative, not all zero")
        if min(self.sagittal_fov_mm, self.axial_fov_mm, self.sagittal_spacing_mm) <= 0:
            raise ValueError("fields of view and spacing must be positive")
