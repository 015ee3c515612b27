"""The content of submission and evidence, and the table of scores for the user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.core.csv_cells import csv_line
from rsna_lumbar.runtime.core.labels import (
    GRADE_TITLES,
    GRADES,
    LEVELS,
    ROW_LOCATIONS,
    SUBMISSION_COLUMNS,
    condition_title,
    level_title,
    row_id,
)
from rsna_lumbar.runtime.core.text_table import aligned
from rsna_lumbar.runtime.inference.scores import GroupScore, PeakPlace, StudyScore
from rsna_lumbar.runtime.run.pseudonyms import Names
from rsna_lumbar.runtime.studies.study import relative

DIGITS = 9
LEFT_OUT_OF_TITLES = ("Neural", "Narrowing", "Stenosis")

AS_FOUND = Names()
Row = tuple[str, float, float, float]


def submission_rows(score: StudyScore, names: Names = AS_FOUND) -> Iterator[Row]:
    """The rows of a study in the order of the sample submission: those of its groups, up to 25."""
    found = {
        location: probability
        for group in score.groups
        for location, probability in zip(
            group.group.locations, group.probability.tolist(), strict=True
        )
    }
    for condition, level in ROW_LOCATIONS:
        if (condition, level) in found:
            normal_mild, moderate, severe = found[condition, level]
            yield row_id(names(score.study_id), condition, level), normal_mild, moderate, severe


def submission_header() -> str:
    """The first line of a submission."""
    return ",".join(SUBMISSION_COLUMNS) + "\n"


def submission_lines(score: StudyScore, names: Names = AS_FOUND) -> str:
    """The rows of a study as CSV, probabilities with nine digits."""
    return "".join(
        csv_line([name, *(f"{value:.{DIGITS}f}" for value in grades)]) + "\n"
        for name, *grades in submission_rows(score, names)
    )


def evidence_lines(score: StudyScore, data: Path, names: Names = AS_FOUND) -> str:
    """A study as JSON lines, one per group: each probability, and each peak with its position."""
    return "".join(
        json.dumps(_evidence(names(score.study_id), group, data, names), allow_nan=False) + "\n"
        for group in score.groups
    )


def study_table(score: StudyScore, names: Names = AS_FOUND) -> str:
    """A study as a table for the user: level by condition, likeliest grade and its probability."""
    conditions = [(g, c) for g in score.groups for c in g.group.conditions]
    titles = ["", *(_short_title(condition) for _, condition in conditions)]
    rows = [
        [level_title(level), *(_grade_cell(group, one, level) for group, one in conditions)]
        for level in LEVELS
    ]
    lines = [f"Study {names(score.study_id)}", aligned((titles, *rows), names=len(titles))]
    filled = [group.group.series_kind for group in score.groups if group.filled]
    if filled:
        lines.append(f"(*) no slice of {', '.join(filled)}: prior, not scored")
    if any(group.uncovered for group in score.groups):
        lines.append("(+) no slice is nearest to this disc: prior, not scored")
    return "\n".join(lines)


def _evidence(study_id: str, score: GroupScore, data: Path, names: Names) -> dict[str, Any]:
    grades = len(GRADES)
    locations = []
    for index, (condition, level) in enumerate(score.group.locations):
        fields: dict[str, Any] = {
            "condition": condition,
            "level": level,
            "probability": score.probability[index].tolist(),
        }
        if score.peak is not None:
            classes = slice(index * grades, (index + 1) * grades)
            places = score.places[classes]
            peaks = score.peak[classes].tolist()
            fields["peak"] = [place and peak for place, peak in zip(places, peaks, strict=True)]
            fields["from"] = [place and _where(place, data, names) for place in places]
            if view := score.view_of(index):
                fields["view"] = view
                fields["filled"] = score.why_prior(index)
        locations.append(fields)
    return {
        "study_id": study_id,
        "group": score.group.name,
        "filled": score.filled,
        "slices": score.slice_count,
        "locations": locations,
    }


def _where(place: PeakPlace, data: Path, names: Names) -> dict[str, Any]:
    fields = {
        "file": names(relative(place.file, data)),
        "frame": place.frame,
        "x": round(place.x, 1),
        "y": round(place.y, 1),
    }
    if place.distance_mm is not None:
        fields["distance_mm"] = round(place.distance_mm, 1)
    return fields


def _grade_cell(score: GroupScore, condition: str, level: str) -> str:
    index = score.group.locations.index((condition, level))
    grades = score.probability[index]
    best = int(grades.argmax())
    mark = " *" if score.filled else " +" if score.why_prior(index) else ""
    return f"{GRADE_TITLES[best]} {100 * grades[best]:.0f} %{mark}"


def _short_title(condition: str) -> str:
    words = condition_title(condition).split()
    return " ".join(word for word in words if word not in LEFT_OUT_OF_TITLES)
