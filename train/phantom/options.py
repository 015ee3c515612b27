"""What can be asked of the phantom."""

from __future__ import annotations

from dataclasses import dataclass

# Each oddity of the real files, applied to a seeded share of the studies.
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
    "empty-description",  # SeriesDescription is there and empty
    "clinical-header",  # the header of an ordinary clinical file, with valid UIDs
)
# Without any wish: the headers as they are in the real files, and nothing odd in the studies.
USUAL_QUIRKS = frozenset({"rescale-tags"})


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
    # lower ones are worse.
    grade_frequencies: tuple[float, float, float] = (0.77, 0.16, 0.06)
    # Share of a grade's cases drawn on the far side of one border with a neighbouring grade: the
    # error of an ideal reader between two equally frequent neighbours. 0 (none) to 0.4.
    overlap: float = 0.05
    noise: float = 0.025  # standard deviation, as a share of the signal of fat
    quirks: frozenset[str] = USUAL_QUIRKS
    quirk_share: float = 0.5  # of studies that have a given quirk; 0 to 1

    def __post_init__(self) -> None:
        unknown = sorted(self.quirks - set(QUIRKS))
        if unknown:
            raise ValueError(f"unknown quirks {unknown}: choose from {', '.join(QUIRKS)}")
        for problem, wrong in self._problems():
            if wrong:
                raise ValueError(problem)

    def _problems(self) -> tuple[tuple[str, bool], ...]:
        frequencies = self.grade_frequencies
        return (
            (
                "studies and test_studies must be 0 or more",
                min(self.studies, self.test_studies) < 0,
            ),
            ("seed must be 0 or more", self.seed < 0),
            ("matrix_px must be 32 or more", self.matrix_px < 32),
            ("slices_sagittal must be 3 or more", self.slices_sagittal < 3),
            ("slices_axial must be 5 or more", self.slices_axial < 5),
            (
                "grade_frequencies must be three shares, none negative, not all zero",
                len(frequencies) != 3 or min(frequencies) < 0 or sum(frequencies) <= 0,
            ),
            ("overlap must lie in 0 to 0.4", not 0 <= self.overlap <= 0.4),
            ("noise must not be negative", self.noise < 0),
            ("quirk_share must lie in 0 to 1", not 0 <= self.quirk_share <= 1),
            (
                "fields of view and spacing must be positive",
                min(self.sagittal_fov_mm, self.axial_fov_mm, self.sagittal_spacing_mm) <= 0,
            ),
        )
