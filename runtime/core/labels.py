"""The one table of what is graded: groups, conditions, levels, grades, classes and rows.

All code that names a class, a row or a column uses this table. The spelling is that of the
RSNA 2024 lumbar-spine challenge.

The order of classes inside a group ("canonical") is condition, then level, then grade, so class
``c`` is grade ``c % 3`` of location ``c // 3``. A location is one (condition, level) of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("l1_l2", "l2_l3", "l3_l4", "l4_l5", "l5_s1")
GRADES = ("normal_mild", "moderate", "severe")
MODERATE, SEVERE = 1, 2  # indices into GRADES
GRADE_TITLES = ("Normal/Mild", "Moderate", "Severe")

# Weight of a row in the challenge's metric, per grade.
GRADE_WEIGHTS = (1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Group:
    """The conditions that one detector grades, and the kind of series it reads."""

    name: str
    series_kind: str  # as spelled in the challenge's series_description column
    conditions: tuple[str, ...]

    @property
    def plane(self) -> str:
        """``sagittal`` or ``axial``: the plane of its series."""
        return self.series_kind.split()[0].lower()

    @property
    def locations(self) -> tuple[tuple[str, str], ...]:
        """(condition, level) pairs in canonical order: 5 for spinal, 10 for the others."""
        return tuple((condition, level) for condition in self.conditions for level in LEVELS)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names ``<condition>_<level>_<grade>`` in canonical order: 15 or 30."""
        return tuple(
            f"{condition}_{level}_{grade}"
            for condition, level in self.locations
            for grade in GRADES
        )


SPINAL = Group("spinal", "Sagittal T2/STIR", ("spinal_canal_stenosis",))
FORAMINAL = Group(
    "foraminal",
    "Sagittal T1",
    ("left_neural_foraminal_narrowing", "right_neural_foraminal_narrowing"),
)
SUBARTICULAR = Group(
    "subarticular",
    "Axial T2",
    ("left_subarticular_stenosis", "right_subarticular_stenosis"),
)
GROUPS = (SPINAL, FORAMINAL, SUBARTICULAR)
GROUP_BY_NAME = {group.name: group for group in GROUPS}
GROUP_BY_KIND = {group.series_kind: group for group in GROUPS}


def kind_of(group: Group | None) -> str:
    """The kind of series that a group reads; empty for None."""
    return group.series_kind if group else ""


CONDITIONS = tuple(condition for group in GROUPS for condition in group.conditions)
LOCATIONS = tuple(location for group in GROUPS for location in group.locations)  # 25

# sample_submission.csv is sorted by row id; within a study, in the order of these suffixes.
ROW_LOCATIONS = tuple(sorted(LOCATIONS, key="_".join))
SUBMISSION_COLUMNS = ("row_id", *GRADES)


def row_id(study_id: str, condition: str, level: str) -> str:
    """Name of a row of the submission."""
    return f"{study_id}_{condition}_{level}"


def study_of_row(name: str) -> str:
    """The study of a submission row; empty if the name is not that of a row."""
    ends = (row_id("", *location) for location in ROW_LOCATIONS)
    return next((name.removesuffix(end) for end in ends if name.endswith(end)), "")


def condition_title(condition: str) -> str:
    """``left_subarticular_stenosis`` -> ``Left Subarticular Stenosis``, as in the coordinates."""
    return condition.replace("_", " ").title()


def level_title(level: str) -> str:
    """``l5_s1`` -> ``L5/S1``, as in the coordinates."""
    return level.replace("_", "/").upper()
