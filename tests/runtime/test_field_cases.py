"""Studies as scanners, archives and anonymisers store them: the rows of the study itself.

Another hand wrote the script that makes them, from the demo's studies.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.core.reasons import Reason
from rsna_lumbar.runtime.demo import demo_bundle, demo_studies
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.runtime.studies.study import Inventory

Rows = Mapping[tuple[str, str], np.ndarray]  # location -> three probabilities
BOTH = ("12_same_study_uid", "13_blank_both", "13_blank_flat", "13_blank_study")
# A fifth of each picture is padding, or background: what is left is a crop. Measured: 0.09.
PADDED = {"18_padding_declared": 0.15, "18_padding_as_background": 0.15}


@pytest.fixture(scope="module")
def cases(field_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    told = os.environ | {"RSNA_DEMO": str(demo_studies().parent), "CASES": str(folder)}
    made = subprocess.run([sys.executable, field_cases], env=told, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    with Scorer(demo_bundle(), device="cpu") as scorer:
        yield scorer


def scored(scorer: Scorer, found: Inventory) -> list[Rows]:
    """Rows of each study."""
    return [
        {
            location: row
            for group in study.groups
            for location, row in zip(group.group.locations, group.probability, strict=True)
        }
        for study in scorer.score(found)
    ]


def difference(one: Rows, other: Rows) -> float:
    assert len(one) == len(other) == 25
    return max(float(np.abs(one[place] - other[place]).max()) for place in one)


def test_each_gives_the_rows_of_the_study_itself(cases: Path, scorer: Scorer) -> None:
    ours, others = (
        scored(scorer, find_studies(cases / name))[0] for name in ("00_base", "00_baseB")
    )
    assert difference(ours, others) > 0.5
    for folder in sorted(cases.iterdir()):
        if folder.name.startswith("00_"):
            continue
        found = find_studies(folder)
        rows = scored(scorer, found)
        expected = [ours, others] if folder.name in BOTH else [ours]
        assert len(rows) == len(expected), folder.name
        for got in rows:
            index = int(np.argmin([difference(got, one) for one in expected]))
            nearest = expected.pop(index)
            assert difference(got, nearest) <= PADDED.get(folder.name, 1e-6), folder.name
            for place, row in got.items():
                assert row.argmax() == nearest[place].argmax(), (folder.name, place)
        assert all(skip.harmless for skip in found.skips), folder.name


def test_what_was_done_is_named(cases: Path) -> None:
    def reasons(name: str) -> set[Reason]:
        return {skip.reason for skip in find_studies(cases / name).skips}

    assert reasons("00_base") == set()
    assert reasons("03_localizer_names") == {Reason.KIND_NOT_NEEDED}
    assert reasons("05_dual_echo") == {Reason.KIND_NOT_NEEDED, Reason.REGROUPED}
    for name in ("06_one_series_uid", "12_same_study_uid", "13_blank_study"):
        assert Reason.REGROUPED in reasons(name), name
    assert reasons("16_cd") == {Reason.NOT_DICOM, Reason.NOT_MR_IMAGE}
