"""The run manifest ``<name>.run.json``: counts, skips and decisions, study by study."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rsna_lumbar.runtime.bundle.records import MANIFEST
from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.core.reasons import CONSEQUENCES, DOUBTS, Reason, Skip
from rsna_lumbar.runtime.inference.scores import StudyScore
from rsna_lumbar.runtime.run.fingerprint import software
from rsna_lumbar.runtime.run.output_files import Results
from rsna_lumbar.runtime.run.pseudonyms import Names
from rsna_lumbar.runtime.studies.study import Series, Study, StudyStream

if TYPE_CHECKING:
    from rsna_lumbar.runtime.inference.loaded_bundle import OpenBundle

# Reasons why a series that may be of a kind was not used as one.
_OF_SERIES = frozenset({Reason.KIND_UNKNOWN, Reason.SERIES_NOT_FOUND})
# Reasons that never leave a study without a series kind.
_NO_CAUSE = CONSEQUENCES | DOUBTS | {Reason.NO_DETECTOR, Reason.SAME_ANATOMY, Reason.OTHER_PLANE}

RESEARCH_USE = "Research use only. Not a medical device."


@dataclass(slots=True)
class Tally:
    """Counts over some studies."""

    studies: int = 0  # with at least one scored slice
    prior_studies: int = 0  # with rows that are all prior rows
    scored_groups: Counter[str] = field(default_factory=Counter)  # group -> number of studies
    rows: int = 0
    slices: int = 0
    files: int = 0  # in all series
    files_not_read: int = 0  # in series that no detector reads
    files_decoded: int = 0
    files_skipped: int = 0
    left_out: int = 0  # slices that were not selected, or are in no view
    without_orientation: int = 0  # slices that were scored as stored
    without_body_part: int = 0  # studies in which no header names a body part
    decoders: Counter[str] = field(default_factory=Counter)
    skips: list[Skip] = field(default_factory=list)
    series: list[Mapping[str, Any]] = field(default_factory=list)
    filled: list[Mapping[str, str]] = field(default_factory=list)  # groups filled from the prior
    uncovered: list[Mapping[str, str]] = field(default_factory=list)  # rows filled from the prior
    plain: list[Mapping[str, str]] = field(default_factory=list)  # groups that no position decided
    discs: list[Mapping[str, Any]] = field(default_factory=list)  # of each study, if asked for

    @classmethod
    def of(cls, score: StudyScore, names: Names) -> Self:
        """The counts of one study."""
        files = {path for series in score.study.series for path in series.files}
        read = {path for one in score.study.series if one.group for path in one.files}
        slices = sum(group.slice_count for group in score.groups)
        return cls(
            studies=int(slices > 0),
            prior_studies=int(bool(score.groups) and not slices),
            scored_groups=Counter(one.group.name for one in score.groups if one.slice_count),
            rows=sum(len(group.group.locations) for group in score.groups),
            slices=slices,
            files=len(files),
            files_not_read=len(files - read),
            files_decoded=score.decoding.files,
            files_skipped=score.decoding.skipped,
            left_out=score.decoding.left_out + sum(group.left_out for group in score.groups),
            without_orientation=score.decoding.without_orientation,
            without_body_part=int(score.study.without_body_part),
            decoders=Counter(score.decoding.by),
            skips=list(map(names.skip, score.skips)),
            series=list(_series_decisions(score.study, names)),
            filled=[
                {
                    "study_id": names(score.study_id),
                    "group": group.group.name,
                    "reason": group.filled,
                }
                for group in score.groups
                if group.filled
            ],
            uncovered=[
                {
                    "study_id": names(score.study_id),
                    "condition": condition,
                    "level": level,
                    "reason": Reason.LEVEL_NOT_COVERED,
                }
                for group in score.groups
                for condition, level in group.uncovered
            ],
            plain=[
                {
                    "study_id": names(score.study_id),
                    "group": group.group.name,
                    "reason": Reason.GEOMETRY_MISSING,
                }
                for group in score.groups
                if group.views and not group.views.by_position
            ],
            discs=[{"study_id": names(score.study_id), **score.discs.as_json()}]
            if score.discs
            else [],
        )

    def add(self, other: Tally) -> None:
        """Add the counts of other studies."""
        for one in fields(self):
            total = getattr(self, one.name)
            total += getattr(other, one.name)
            setattr(self, one.name, total)

    def as_json(self) -> dict[str, Any]:
        """The counts as JSON for a journal."""
        content = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**content, "skips": [skip.as_json() for skip in self.skips]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The counts read from a journal."""
        skips = [Skip(Reason(s["reason"]), s["what"], s["detail"]) for s in content["skips"]]
        counters = {name: Counter(content[name]) for name in ("decoders", "scored_groups")}
        return cls(**{**content, "skips": skips, **counters})


class RunRecord:
    """Collects the content of ``<name>.run.json``."""

    def __init__(
        self,
        found: StudyStream,
        options: Mapping[str, Any],
        names: Names,
        *,
        results: Results,
    ) -> None:
        self.options = options
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.started = results.started or now
        self.resumed = now if results.resumed else None
        self.note = results.note
        self.found = found.count
        self.strays = tuple(map(names.skip, found.strays))
        self.total = Tally(skips=list(self.strays))
        self.resumed_after = results.done  # number of studies

    @property
    def complete(self) -> bool:
        """Whether nothing that the run should have used was left out or filled in."""
        return all(skip.harmless for skip in self.total.skips)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What rests on the prior alone: everything, or a group in every study."""
        total = self.total
        if not total.rows:
            return (f"nothing to score: no series of a lumbar spine was found{self._mostly()}",)
        if not total.slices:
            return (
                f"NOTHING WAS SCORED: all {total.rows} rows are the bundle's prior{self._mostly()}",
            )
        studies = total.studies + total.prior_studies
        never = Counter(one["group"] for one in total.filled)
        return tuple(
            f"NO {group.series_kind.upper()} WAS SCORED in any of {studies} studies: its rows are "
            f"the bundle's prior{self._mostly(group)}"
            for group in GROUPS
            if never[group.name] == studies
        )

    def _mostly(self, group: Group | None = None) -> str:
        """The commonest reason; for a group, why it was filled and the cause of that."""
        reasons = Counter(one.reason for one in self.total.skips)
        roots = _but(reasons, CONSEQUENCES)
        if group is None:
            return "".join(f" (mostly {one})" for one in _commonest(roots))
        filled = Counter(
            Reason(one["reason"]) for one in self.total.filled if one["group"] == group.name
        )
        causes = _but(reasons, _NO_CAUSE)
        if set(filled) == {Reason.SERIES_MISSING}:
            causes = _but(causes, set(causes) - _OF_SERIES) or causes
        else:
            causes = _but(causes, _OF_SERIES | {Reason.KIND_NOT_NEEDED})
        told = [*_commonest(filled), *(f"commonest reason: {one}" for one in _commonest(causes))]
        return f" (mostly {'; '.join(told)})"

    def manifest(self, opened: OpenBundle, bundle: Path) -> str:
        """The run manifest as JSON."""
        content = {
            "notice": RESEARCH_USE,
            "warnings": list(self.warnings),
            "started": self.started,
            "resumed": self.resumed,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": software(),
            "bundle": {
                "manifest_sha256": sha256_of(bundle / MANIFEST),
                "calibration_aim": opened.bundle.calibration_aim,
                "models": list(_models(opened)),
            },
            "backend": opened.backend,
            "precision": opened.precision,
            "device": opened.device,
            "why": "; ".join(dict.fromkeys(filter(None, (self.note, opened.note)))),
            "options": {**self.options, "batch_size": opened.batch_size},
            "counts": self._counts(),
            "decoders": dict(sorted(self.total.decoders.items())),
            "resumed_after_studies": self.resumed_after,
            "groups_not_in_bundle": [one.name for one in opened.bundle.missing_groups],
            "filled_from_prior": self.total.filled,
            **self._views(opened),
            "skipped": [skip.as_json() for skip in self._skips(doubtful=False)],
            "doubtful": [skip.as_json() for skip in self._skips(doubtful=True)],
            "series": self.total.series,
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def _views(self, opened: OpenBundle) -> dict[str, Any]:
        """What positions told, if the bundle asks for views."""
        if not opened.bundle.groups_by_views:
            return {}
        return {
            "rows_filled_from_prior": self.total.uncovered,
            "scored_without_positions": self.total.plain,
            "discs": self.total.discs,
        }

    def _skips(self, *, doubtful: bool) -> list[Skip]:
        """Everything that was left out or filled in, or all that was used but is doubtful."""
        return [skip for skip in self.total.skips if (skip.reason in DOUBTS) == doubtful]

    def _counts(self) -> dict[str, Any]:
        total = self.total
        return {
            "studies_found": self.found,
            "studies_scored": total.studies,
            "studies_of_the_prior_alone": total.prior_studies,
            "studies_without_body_part": total.without_body_part,
            "studies_scored_by_group": dict(sorted(total.scored_groups.items())),
            "rows": total.rows,
            "series": len(total.series),
            "files": total.files,
            "files_of_series_not_read": total.files_not_read,
            "files_decoded": total.files_decoded,
            "files_skipped": total.files_skipped,
            "files_outside_studies": len(self.strays),
            "slices_scored": total.slices,
            "slices_not_selected": total.left_out,
            "slices_without_orientation": total.without_orientation,
            "skipped": _by_reason(self._skips(doubtful=False)),
            "doubtful": _by_reason(self._skips(doubtful=True)),
        }


def _but(reasons: Counter[Reason], others: Set[Reason]) -> Counter[Reason]:
    return Counter({one: count for one, count in reasons.items() if one not in others})


def _commonest(reasons: Counter[Reason]) -> list[str]:
    """The commonest reason with its count, or nothing."""
    return [f"{reason}: {count}" for reason, count in reasons.most_common(1)]


def _by_reason(skips: Iterable[Skip]) -> dict[str, int]:
    return dict(sorted(Counter(skip.reason for skip in skips).items()))


def _models(opened: OpenBundle) -> Iterable[dict[str, Any]]:
    """The models that were really used."""
    for name, models in opened.models.items():
        for one in models:
            yield {
                "group": name,
                "files": {file.name: file.sha256 for file in one.model.files},
                "precision": one.model.precision,
                "device": one.session.device,
            }


def _series_decisions(study: Study, names: Names) -> Iterable[dict[str, Any]]:
    for series in study.series:
        yield {
            "study_id": names(study.study_id),
            "series_id": names(series.series_id),
            "read_by": series.group.name if series.group else None,
            "kind_from": series.group_from,
            "why": series.why,
            "files": len(series.files),
            **_facts(series),
        }


def _facts(series: Series) -> dict[str, Any]:
    """The facts that headers state about a series, without any of their text."""
    facts = asdict(series.facts) if series.facts else {}
    facts.pop("description", None)
    return {
        key: [round(one, 4) for one in value]
        if isinstance(value, tuple)
        else round(value, 3)
        if isinstance(value, float)
        else value
        for key, value in facts.items()
        if value is not None
    }
