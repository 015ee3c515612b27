"""Scoring by views: each location from the slices that show it, whatever the batches are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import Outputs
from rsna_lumbar.runtime.bundle.manifest import read_bundle, write_manifest
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.cli import main
from rsna_lumbar.runtime.core.labels import SUBARTICULAR
from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities, set_peaks
from rsna_lumbar.runtime.decode.slice_sets import SetRequest
from rsna_lumbar.runtime.demo import demo_bundle, demo_studies
from rsna_lumbar.runtime.dicom.slices import Slice
from rsna_lumbar.runtime.geometry.views import Views
from rsna_lumbar.runtime.inference.batches import fill_batches
from rsna_lumbar.runtime.inference.scores import GroupScore, PartPeaks, group_score
from rsna_lumbar.runtime.inference.viewed_sets import ViewedSet

CLASSES = len(SUBARTICULAR.classes)
LEVEL_OF = np.tile(np.arange(5), 2)
PRIOR = (0.7, 0.2, 0.1)
BY_VIEWS = Calibration(1.3, (0.0, 0.2, -0.1))
DETECTOR = Detector(
    SUBARTICULAR, 32, Calibration(), (PRIOR,) * 10, "mean", models=(), by_views=BY_VIEWS
)


def made_set(name: str, peaks: NDArray[np.float32], level: NDArray[np.intp]) -> ViewedSet:
    """A set whose slice n shows the disc ``level[n]`` and has the peaks ``peaks[n]``."""
    slices = tuple(
        Slice(row.view(np.uint8)[None], Path(name), n, 32, 32, None, None, n)
        for n, row in enumerate(peaks)
    )
    shown = level[None] == np.arange(5)[:, None]
    views = Views(("a", "b", "c", "d", "e"), shown, LEVEL_OF, np.zeros(shown.shape))
    return ViewedSet(SetRequest(name, SUBARTICULAR, 32, ()), slices, views)


def graph(slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
    """What the score graph says of slices that carry their own peaks."""
    peak, first = set_peaks(slices[:, 0].copy().view(np.float32), member)
    probability = probabilities(peak, BY_VIEWS).astype(np.float32)
    return Outputs(peak, probability, first, np.where(first < 0, -1, 0))


def scores_in_batches(sets: list[ViewedSet], size: int) -> dict[str, GroupScore]:
    found, parts = {}, []
    for batch in fill_batches(sets, size):
        member = batch.member
        assert len(member) <= batch.count and (member.sum(axis=0) == 1).all()
        outputs, row = graph(batch.slices, member), 0
        for part in batch.parts:
            parts.append(PartPeaks.of(part, row, [outputs]))
            row += int(part.of.views_between(part.start, part.stop).sum())
            if part.last:
                found[part.of.request.study_id] = group_score(DETECTOR, part, parts)
                parts = []
        assert row == len(member)
    return found


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=9), max_size=5), st.integers(1, 8))
def test_each_location_is_the_maximum_over_its_view(levels: list[list[int]], size: int) -> None:
    rng = np.random.default_rng(size)
    peaks = {str(i): rng.random((len(of), CLASSES), np.float32) for i, of in enumerate(levels)}
    sets = [made_set(str(i), peaks[str(i)], np.array(of)) for i, of in enumerate(levels)]
    found = scores_in_batches(sets, size)
    assert set(found) == set(peaks)
    for name, score in found.items():
        level = np.array(levels[int(name)])
        for location, of_level in enumerate(LEVEL_OF):
            classes = slice(3 * location, 3 * location + 3)
            shown = np.flatnonzero(level == of_level)
            places = score.places[classes]
            if not len(shown):
                assert places == (None, None, None)
                np.testing.assert_allclose(score.probability[location], PRIOR)
                continue
            best = peaks[name][shown][:, classes]
            assert [place and place.frame for place in places] == shown[best.argmax(0)].tolist()
            expected = probabilities(best.max(axis=0), BY_VIEWS)[0]
            np.testing.assert_allclose(score.probability[location], expected, atol=1e-6)
        uncovered = {level for _, level in score.uncovered}
        assert len(uncovered) == 5 - len(np.unique(level))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's bundle, by views with a calibration of its own."""
    folder = tmp_path_factory.mktemp("views") / "bundle"
    shutil.copytree(demo_bundle(), folder)
    whole = read_bundle(folder)
    changed = tuple(
        replace(one, by_views=one.calibration) if one.group.name != "spinal" else one
        for one in whole.detectors
    )
    write_manifest(folder, replace(whole, detectors=changed))
    return folder


def run(bundle: Path, data: Path, out: Path, *options: str) -> list[dict[str, Any]]:
    """Score with evidence; the records of the evidence."""
    evidence = out.with_suffix(".jsonl")
    words = [str(data), "--bundle", str(bundle), "--output", str(out), "--evidence", str(evidence)]
    with pytest.raises(SystemExit) as end:
        main([*words, "--quiet", *options])
    assert end.value.code == 0
    return [json.loads(line) for line in evidence.read_text().splitlines()]


def test_the_manifest_keeps_the_calibration_by_views(bundle: Path) -> None:
    assert read_bundle(bundle).by_views == ("foraminal", "subarticular")
    assert read_bundle(demo_bundle()).by_views == ()


def test_each_place_lies_in_the_view_of_its_location(bundle: Path, tmp_path: Path) -> None:
    records = run(bundle, demo_studies(), tmp_path / "a.csv")
    files: dict[str, set[str]] = {}
    for record in records:
        for location in record["locations"]:
            if record["group"] == "spinal":
                assert "view" not in location
                continue
            side, _, _ = location["condition"].partition("_")
            assert location["view"] == (
                side if record["group"] == "foraminal" else location["level"]
            )
            key = f"{record['study_id']} {record['group']} {location['view']}"
            files.setdefault(key, set()).update(place["file"] for place in location["from"])
    keys = sorted(files)
    assert len(keys) == 2 * (2 + 5)
    for one in keys:
        others = (files[k] for k in keys if k != one)
        assert not files[one] & set().union(*others)


def test_processes_and_batches_change_nothing(bundle: Path, tmp_path: Path) -> None:
    run(bundle, demo_studies(), tmp_path / "a.csv")
    run(bundle, demo_studies(), tmp_path / "b.csv", "--workers", "2", "--batch-size", "16")
    one, other = (pd.read_csv(tmp_path / name) for name in ("a.csv", "b.csv"))
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-6)


def test_a_study_without_sagittal_t2_is_scored_plainly(bundle: Path, tmp_path: Path) -> None:
    """Without discs every slice counts for every location, by the plain calibration."""
    data = tmp_path / "data"
    shutil.copytree(demo_studies(), data)
    table = pd.read_csv(next(data.rglob("*series_descriptions.csv")))
    for row in table[table.series_description == "Sagittal T2/STIR"].itertuples():
        shutil.rmtree(next(data.rglob(str(row.series_id))))
    evidence = tmp_path / "a.jsonl"
    out = tmp_path / "a.csv"
    with pytest.raises(SystemExit) as end:
        main([str(data), "--bundle", str(bundle), "--output", str(out), "--quiet",
              "--evidence", str(evidence)])  # fmt: skip
    assert end.value.code == 3  # the missing series
    manifest = json.loads(out.with_suffix(".run.json").read_text())
    assert manifest["counts"]["skipped"]["geometry_missing"] == 4
    run_plain = tmp_path / "b.csv"
    with pytest.raises(SystemExit):
        main([str(data), "--bundle", str(demo_bundle()), "--output", str(run_plain), "--quiet"])
    assert out.read_bytes() == run_plain.read_bytes()
