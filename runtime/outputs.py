"""What a run leaves behind: submission, evidence, run manifest, and the table for a person."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsna_lumbar.runtime.bundle import MANIFEST, sha256_of
from rsna_lumbar.runtime.discovery import Inventory, Study, StudyStream, relative
from rsna_lumbar.runtime.labels import (
    GRADE_TITLES,
    GRADES,
    LEVELS,
    ROW_LOCATIONS,
    SUBMISSION_COLUMNS,
    condition_title,
    level_title,
    row_id,
)
from rsna_lumbar.runtime.reasons import Skip
from rsna_lumbar.runtime.scores import GroupScore, StudyScore
from rsna_lumbar.runtime.versions import versions_of

if TYPE_CHECKING:
    from rsna_lumbar.runtime.open_bundle import OpenBundle

DIGITS = 9
LEFT_OUT_OF_TITLES = ("Neural", "Narrowing", "Stenosis")
RESEARCH_USE = "Research use only. Not a medical device."
LIBRARIES = (
    "rsna-lumbar",
    "numpy",
    "pydicom",
    "pillow",
    "pylibjpeg",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "onnxruntime-gpu",
    "onnxruntime",
)

Row = tuple[str, float, float, float]


def submission_rows(score: StudyScore) -> Iterator[Row]:
    """The 25 rows of a study in the order of the sample submission; none where it has no groups."""
    found = {
        location: probability
        for group in score.groups
        for location, probability in zip(
            group.group.locations, group.probability.tolist(), strict=True
        )
    }
    if found:
        for condition, level in ROW_LOCATIONS:
            normal_mild, moderate, severe = found[condition, level]
            yield row_id(score.study_id, condition, level), normal_mild, moderate, severe


def submission_header() -> str:
    """First line of a submission."""
    return ",".join(SUBMISSION_COLUMNS) + "\n"


def submission_lines(score: StudyScore) -> str:
    """The rows of a study as CSV, probabilities with nine digits."""
    return "".join(
        f"{_cell(name)},{','.join(f'{value:.{DIGITS}f}' for value in grades)}\n"
        for name, *grades in submission_rows(score)
    )


def evidence_lines(score: StudyScore, data: Path) -> str:
    """A study as JSON lines, one a group: each probability, each peak and where it came from."""
    return "".join(
        json.dumps(_evidence(score.study_id, group, data), allow_nan=False) + "\n"
        for group in score.groups
    )


def study_table(score: StudyScore) -> str:
    """A study as a person reads it: level by condition, likeliest grade and its probability."""
    conditions = [(g, c) for g in score.groups for c in g.group.conditions]
    titles = [_short_title(condition) for _, condition in conditions]
    widths = [max(len(title), len("Normal/Mild 100 %")) for title in titles]
    lines = [
        f"Study {score.study_id}",
        "  ".join([" " * 5, *(t.ljust(w) for t, w in zip(titles, widths, strict=True))]).rstrip(),
    ]
    for level in LEVELS:
        cells = [_grade_cell(group, condition, level) for group, condition in conditions]
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append("  ".join([level_title(level), *padded]).rstrip())
    filled = [group.group.series_kind for group in score.groups if group.filled]
    if filled:
        lines.append(f"(*) no slice of {', '.join(filled)}: prior, not scored")
    return "\n".join(lines)


class RunRecord:
    """Collects what ``<name>.run.json`` says about a run."""

    def __init__(self, found: Inventory | StudyStream, options: dict[str, Any]) -> None:
        self.options = options
        self.started = datetime.now(UTC)
        self.skips: list[Skip] = list(found.strays)
        self.series: list[dict[str, Any]] = []
        self.found = found.count
        self.filled: list[dict[str, str]] = []
        self.studies = 0
        self.rows = 0
        self.slices = 0
        self.left_out = 0

    def add(self, score: StudyScore) -> None:
        """Count a study."""
        self.studies += bool(score.groups)
        self.rows += len(list(submission_rows(score)))
        self.slices += sum(group.slice_count for group in score.groups)
        self.left_out += score.left_out
        self.skips.extend(score.skips)
        self.series.extend(_series_decisions(score.study))
        self.filled.extend(
            {"study_id": score.study_id, "group": group.group.name, "reason": group.filled}
            for group in score.groups
            if group.filled
        )

    @property
    def complete(self) -> bool:
        """Nothing that a run should have used was left out or filled in."""
        return all(skip.harmless for skip in self.skips)

    def reasons(self) -> Counter[str]:
        """How often each reason stands in the manifest."""
        return Counter(str(skip.reason) for skip in self.skips)

    def manifest(self, opened: OpenBundle, bundle: Path) -> str:
        """The run manifest as JSON."""
        fields = {
            "notice": RESEARCH_USE,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions_of(LIBRARIES),
            "bundle": {
                "manifest_sha256": sha256_of(bundle / MANIFEST),
                "calibration_aim": opened.bundle.calibration_aim,
                "models": [
                    {
                        "group": name,
                        "files": {file.name: file.sha256 for file in one.model.files},
                        "precision": one.model.precision,
                        "device": one.session.device,
                    }
                    for name, models in opened.models.items()
                    for one in models
                ],
            },
            "backend": opened.backend,
            "precision": opened.precision,
            "device": opened.device,
            "why": opened.note,
            "options": {**self.options, "batch_size": opened.batch_size},
            "counts": {
                "studies_found": self.found,
                "studies_scored": self.studies,
                "rows": self.rows,
                "series": len(self.series),
                "slices_scored": self.slices,
                "slices_not_selected": self.left_out,
                "skipped": dict(sorted(self.reasons().items())),
            },
            "filled_from_prior": self.filled,
            "skipped": [
                {"reason": skip.reason, "what": skip.what, "detail": skip.detail}
                for skip in self.skips
            ],
            "series": self.series,
        }
        return json.dumps(fields, indent=2, allow_nan=False) + "\n"


def _series_decisions(study: Study) -> Iterable[dict[str, Any]]:
    for series in study.series:
        yield {
            "study_id": study.study_id,
            "series_id": series.series_id,
            "read_by": series.group.name if series.group else None,
            "kind_from": series.group_from,
            "files": len(series.files),
        }


def _evidence(study_id: str, score: GroupScore, data: Path) -> dict[str, Any]:
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
            fields["peak"] = score.peak[classes].tolist()
            fields["from"] = [
                {
                    "file": relative(place.file, data),
                    "frame": place.frame,
                    "x": round(place.x, 1),
                    "y": round(place.y, 1),
                }
                for place in score.places[classes]
            ]
        locations.append(fields)
    return {
        "study_id": study_id,
        "group": score.group.name,
        "filled": score.filled,
        "slices": score.slice_count,
        "locations": locations,
    }


def _grade_cell(score: GroupScore, condition: str, level: str) -> str:
    grades = score.probability[score.group.locations.index((condition, level))]
    best = int(grades.argmax())
    mark = " *" if score.filled else ""
    return f"{GRADE_TITLES[best]} {100 * grades[best]:.0f} %{mark}"


def _short_title(condition: str) -> str:
    words = condition_title(condition).split()
    return " ".join(word for word in words if word not in LEFT_OUT_OF_TITLES)


def _cell(text: str) -> str:
    """A CSV cell, quoted where it has to be (RFC 4180)."""
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
