"""Scoring by views: each location from the slices that show it, whatever the batches are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from stored_ways import WAYS, store_in_another_way

from rsna_lumbar.runtime import Scorer, stream_studies
from rsna_lumbar.runtime.backends import Outputs
from rsna_lumbar.runtime.backends.onnxruntime import OnnxSession
from rsna_lumbar.runtime.bundle.manifest import read_bundle, write_manifest
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.cli import main
from rsna_lumbar.runtime.core.errors import BundleError
from rsna_lumbar.runtime.core.labels import FORAMINAL, LEVELS, SUBARTICULAR, Group
from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities, set_peaks
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason
from rsna_lumbar.runtime.decode.slice_sets import SetRequest, SliceSet
from rsna_lumbar.runtime.demo import demo_bundle, demo_studies
from rsna_lumbar.runtime.dicom.header import Geometry
from rsna_lumbar.runtime.dicom.slices import Slice, read_slices
from rsna_lumbar.runtime.geometry.discs import Discs
from rsna_lumbar.runtime.geometry.slice_plane import SlicePlane
from rsna_lumbar.runtime.geometry.views import Views
from rsna_lumbar.runtime.inference import scheduler
from rsna_lumbar.runtime.inference.batches import fill_batches
from rsna_lumbar.runtime.inference.scores import GroupScore, PartPeaks, StudyScore, group_score
from rsna_lumbar.runtime.inference.viewed_sets import ViewedSet, by_position
from rsna_lumbar.runtime.run.submission import study_table

INTERRUPTED = Path(__file__).parents[1] / "support" / "interrupted_run.py"
ENDED = 99
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


def squared(slices: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What another detector of the ensemble sees."""
    return np.ascontiguousarray((slices.view(np.float32) ** 2).view(np.uint8))


def scores_in_batches(sets: list[ViewedSet], size: int) -> dict[str, GroupScore]:
    found, parts = {}, []
    for batch in fill_batches(sets, size):
        member = batch.member
        assert len(member) <= batch.count and (member.sum(axis=0) == 1).all()
        slices, row = batch.slices, 0
        outputs = [graph(slices, member), graph(squared(slices), member)]
        for part in batch.parts:
            parts.append(PartPeaks.of(part, row, outputs))
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
            mean = (best.max(axis=0) + best.max(axis=0) ** 2) / 2
            expected = probabilities(mean, BY_VIEWS)[0]
            np.testing.assert_allclose(score.probability[location], expected, atol=1e-6)
        why = [score.why_prior(location) for location in range(len(LEVEL_OF))]
        assert why.count(Reason.LEVEL_NOT_COVERED) == 2 * (5 - len(np.unique(level)))
        assert set(why) <= {None, Reason.LEVEL_NOT_COVERED}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's bundle, by views with a calibration of its own."""
    folder = tmp_path_factory.mktemp("views") / "bundle"
    shutil.copytree(demo_bundle(), folder)
    whole = read_bundle(folder)
    changed = tuple(
        replace(one, by_views=BY_VIEWS) if one.group.name != "spinal" else one
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
    assert read_bundle(bundle).groups_by_views == ("foraminal", "subarticular")
    assert read_bundle(demo_bundle()).groups_by_views == ()


def test_views_of_the_spinal_detector_are_refused(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    fields = json.loads((folder / "bundle.json").read_text())
    spinal, foraminal, _ = fields["detectors"].values()
    spinal["views"] = foraminal["views"]
    (folder / "bundle.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError, match="views are not for spinal"):
        read_bundle(folder)


def test_views_without_a_spinal_detector_are_refused(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    fields = json.loads((folder / "bundle.json").read_text())
    del fields["detectors"]["spinal"]
    (folder / "bundle.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError, match="views, but no spinal detector to find the discs"):
        read_bundle(folder)


CENTRES = np.array([[0.0, 0.0, 60.0 - 30 * level] for level in range(5)])
DISCS = Discs(CENTRES, (True,) * 5, 0.5, "1.2.3")
SAGITTAL, AXIAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def placed_set(group: Group, centres_mm: list[tuple[float, float, float]], uid: str) -> SliceSet:
    orientation = SAGITTAL if group == FORAMINAL else AXIAL
    slices = tuple(
        Slice(
            np.zeros((1, 1), np.uint8), Path("a"), n, 9, 9,
            Geometry(orientation, centre, uid), (1.0, 1.0), n,
        )
        for n, centre in enumerate(centres_mm)
    )  # fmt: skip
    return SliceSet(SetRequest("1", group, 32, ()), slices, ())


@pytest.mark.parametrize(
    ("uid", "views"), [("1.2.3", ("left", "right")), ("", ("left", "right")), ("1.2.4", ("all",))]
)
def test_positions_in_another_frame_of_reference_tell_nothing(
    uid: str, views: tuple[str, ...]
) -> None:
    found = by_position(placed_set(FORAMINAL, [(-9, 0, 0), (1, 0, 0), (8, 0, 0)], uid), DISCS)
    assert found.views.names == views
    assert found.left_out == (0 if views == ("all",) else 1)


def test_sagittal_slices_of_one_side_alone_are_taken_plainly() -> None:
    found = by_position(placed_set(FORAMINAL, [(9, 0, 0), (14, 0, 0)], ""), DISCS)
    assert not found.views.by_position and len(found.slices) == 2


def test_a_slice_as_near_to_two_discs_speaks_for_the_upper() -> None:
    discs = replace(DISCS, centres_mm=CENTRES * 0.8)
    found = by_position(placed_set(SUBARTICULAR, [(0, 0, 12), (0, 0, -90)], ""), discs)
    assert found.views.slices.sum(axis=0).tolist() == [1] and found.left_out == 1
    assert found.views.slices[1, 0]


def test_each_place_lies_in_the_view_of_its_location(bundle: Path, tmp_path: Path) -> None:
    records = run(bundle, demo_studies(), tmp_path / "a.csv")
    files: dict[str, set[str]] = {}
    for record in records:
        for location in record["locations"]:
            if record["group"] == "spinal":
                assert "view" not in location and "filled" not in location
                continue
            assert location["filled"] is None
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


def test_the_manifest_of_the_run_tells_the_discs(bundle: Path, tmp_path: Path) -> None:
    run(bundle, demo_studies(), tmp_path / "a.csv")
    manifest = json.loads((tmp_path / "a.run.json").read_text())
    assert manifest["rows_filled_from_prior"] == manifest["scored_without_positions"] == []
    assert len(manifest["discs"]) == 2
    for one in manifest["discs"]:
        heights = [centre[2] for centre in one["centres_mm"].values()]
        assert list(one["centres_mm"]) == list(LEVELS) and heights == sorted(heights)[::-1]
        assert set(one["seen"]) <= set(LEVELS) and 0 < one["weight"] <= 1
    assert manifest["counts"]["slices_not_selected"] > 0  # of the midline, or far from every disc


def test_a_run_that_was_ended_goes_on_to_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    run(bundle, demo_studies(), tmp_path / "a.csv")
    words = [demo_studies(), "--bundle", bundle, "--output", tmp_path / "b.csv", "--quiet"]
    words += ["--evidence", tmp_path / "b.jsonl"]
    ended = subprocess.run([sys.executable, INTERRUPTED, *words])
    assert ended.returncode == ENDED and (tmp_path / ".b.csv.journal").exists()
    run(bundle, demo_studies(), tmp_path / "b.csv", "--resume")
    for suffix in (".csv", ".jsonl"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    whole, resumed = (json.loads((tmp_path / f"{name}.run.json").read_text()) for name in "ab")
    assert resumed["resumed_after_studies"] == 1
    assert resumed["discs"] == whole["discs"] and resumed["counts"] == whole["counts"]


def test_hashed_ids_hide_the_studies_of_discs(bundle: Path, tmp_path: Path) -> None:
    run(bundle, demo_studies(), tmp_path / "a.csv", "--ids", "hash")
    written = (tmp_path / "a.run.json").read_text()
    assert len(json.loads(written)["discs"]) == 2
    for study in (demo_studies() / "test_images").iterdir():
        assert study.name not in written


def scores_of(bundle: Path, data: Path | None = None, **options: Any) -> list[StudyScore]:
    with Scorer(bundle, device="cpu", **options) as scorer:
        return list(scorer.score(stream_studies(data or demo_studies())))


def require_same(found: list[StudyScore], expected: list[StudyScore]) -> None:
    for one, other in zip(found, expected, strict=True):
        for group, wanted in zip(one.groups, other.groups, strict=True):
            np.testing.assert_allclose(group.probability, wanted.probability, rtol=0, atol=1e-6)
            assert group.places == wanted.places and group.slice_count == wanted.slice_count


def test_batches_change_nothing(bundle: Path) -> None:
    expected = scores_of(bundle)
    assert all(one.discs for one in expected)
    for size in (1, 7, 16):
        require_same(scores_of(bundle, batch_size=size), expected)


def test_processes_change_no_byte(bundle: Path, tmp_path: Path) -> None:
    run(bundle, demo_studies(), tmp_path / "a.csv")
    run(bundle, demo_studies(), tmp_path / "b.csv", "--workers", "2")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_where_many_slices_wait_the_discs_are_found_first(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    compute = OnnxSession.compute

    def counted(session: OnnxSession, slices: np.ndarray, member: np.ndarray) -> Outputs:
        batches.append(len(slices))
        return compute(session, slices, member)

    monkeypatch.setattr(OnnxSession, "compute", counted)
    expected = scores_of(bundle, batch_size=64)
    usual = len(batches)
    monkeypatch.setattr(scheduler, "MOST_WAITING", 0)
    require_same(scores_of(bundle, batch_size=64), expected)
    assert len(batches) > 2 * usual  # a spinal batch for each study


def test_copies_stored_in_other_ways_have_the_same_rows(bundle: Path, tmp_path: Path) -> None:
    """Mirrored, upside down or transposed, renamed, and numbered anew from the end."""
    data = Path(shutil.copytree(demo_studies(), tmp_path / "data"))
    files = sorted(data.rglob("*.dcm"))
    for number, file in enumerate(files):
        store_in_another_way(file, WAYS[number % len(WAYS)])
        dataset = pydicom.dcmread(file)
        dataset.InstanceNumber = len(files) - number
        dataset.save_as(file)
        file.rename(file.with_name(f"{len(files) - number}-again.dcm"))
    expected = scores_of(bundle)
    for one, other in zip(scores_of(bundle, data), expected, strict=True):
        assert one.discs and other.discs
        np.testing.assert_allclose(one.discs.centres_mm, other.discs.centres_mm, atol=1e-3)
        for group, wanted in zip(one.groups, other.groups, strict=True):
            np.testing.assert_allclose(group.probability, wanted.probability, rtol=0, atol=1e-6)


KEPT = {"l3_l4", "l4_l5"}


def without_other_levels(data: Path, scores: list[StudyScore]) -> None:
    """Remove the axial slices that are nearest to another disc."""
    discs = {one.study_id: one.discs for one in scores}
    for file in data.rglob("*.dcm"):
        (one,) = read_slices(file, 32, Preprocessing())
        plane, of_study = SlicePlane.of(one), discs[file.parents[1].name]
        assert plane and of_study
        if abs(plane.normal[2]) > 0.7:
            away = np.abs(plane.beyond_mm(of_study.centres_mm, axis=2))
            if LEVELS[away.argmin()] not in KEPT:
                file.unlink()


def test_levels_that_no_axial_slice_shows_have_the_prior_and_say_so(
    bundle: Path, tmp_path: Path
) -> None:
    """Exit code 0; the other rows stay."""
    data = Path(shutil.copytree(demo_studies(), tmp_path / "data"))
    whole = scores_of(bundle)
    without_other_levels(data, whole)
    records = run(bundle, data, tmp_path / "a.csv")
    manifest = json.loads((tmp_path / "a.run.json").read_text())
    filled = {(one["level"], one["reason"]) for one in manifest["rows_filled_from_prior"]}
    assert filled == {(level, "level_not_covered") for level in set(LEVELS) - KEPT}
    for record in records:
        for location in record["locations"]:
            missing = record["group"] == "subarticular" and location["level"] not in KEPT
            assert location.get("filled") == ("level_not_covered" if missing else None)
            for field in ("from", "peak"):
                assert location[field] == [None] * 3 if missing else None not in location[field]
    scores = scores_of(bundle, data)
    for one, other in zip(scores, whole, strict=True):
        rows, wanted = one.groups[-1], other.groups[-1]
        for index, location in enumerate(SUBARTICULAR.locations):
            expected = wanted.probability[index]
            if location in rows.uncovered:
                expected = np.array(read_bundle(bundle).detectors[-1].prior[index])
            np.testing.assert_allclose(rows.probability[index], expected, rtol=0, atol=1e-6)
    assert "(+) no slice is nearest to this disc" in study_table(scores[0])
    assert "+" not in study_table(whole[0])
    with Scorer(bundle, device="cpu") as scorer:
        frame = scorer.score(stream_studies(data)).to_frame(places=True)
    assert set(frame[frame.filled == "level_not_covered"].level) == set(LEVELS) - KEPT


@pytest.mark.parametrize("fits", [1, 3])
def test_sets_that_wait_survive_a_lack_of_memory(
    bundle: Path, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scores_of(bundle)
    compute = OnnxSession.compute

    def limited(session: OnnxSession, slices: np.ndarray, member: np.ndarray) -> Outputs:
        if len(slices) > fits:
            raise MemoryError("so many slices")
        return compute(session, slices, member)

    monkeypatch.setattr(OnnxSession, "compute", limited)
    require_same(scores_of(bundle, batch_size=8), expected)


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
    assert [one["reason"] for one in manifest["scored_without_positions"]] == [
        "geometry_missing"
    ] * 4
    assert manifest["discs"] == []
    views = {
        location.get("view")
        for line in evidence.read_text().splitlines()
        for location in json.loads(line)["locations"]
        if json.loads(line)["group"] != "spinal"
    }
    assert views == {"all"}
    run_plain = tmp_path / "b.csv"
    with pytest.raises(SystemExit):
        main([str(data), "--bundle", str(demo_bundle()), "--output", str(run_plain), "--quiet"])
    one, other = (pd.read_csv(name) for name in (out, run_plain))
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-6)
