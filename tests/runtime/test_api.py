"""The Python API: the command's rows, as records and as a frame, from disk and from memory."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import pydicom
import pytest
from commands import run
from toys import write_clinical_slice, write_toy_bundle

from rsna_lumbar.runtime import Scorer
from rsna_lumbar.runtime.core.errors import DataError, UsageError
from rsna_lumbar.runtime.core.labels import GRADES, GROUPS, SPINAL, SUBARTICULAR
from rsna_lumbar.runtime.core.reasons import Reason
from rsna_lumbar.runtime.core.turning import AS_STORED
from rsna_lumbar.runtime.demo import demo_bundle, demo_studies
from rsna_lumbar.runtime.dicom.slices import read_frames
from rsna_lumbar.runtime.inference import pipeline
from rsna_lumbar.runtime.inference.scores import StudyScore
from rsna_lumbar.runtime.run.submission import DIGITS
from rsna_lumbar.runtime.studies.finder import find_studies, stream_studies
from rsna_lumbar.runtime.studies.study import FROM_CALLER, Study

ROUNDING = 1e-6  # of batches that are cut elsewhere


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    with Scorer(str(demo_bundle()), device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def study() -> Study:
    return find_studies(demo_studies()).studies[0]


@pytest.fixture(scope="module")
def of_files(scorer: Scorer) -> StudyScore:
    return next(scorer.score(demo_studies()))


def test_a_frame_is_the_submission_that_the_command_writes(scorer: Scorer, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    run(demo_studies(), "--bundle", demo_bundle(), "--device", "cpu", "--output", output)
    written = pd.read_csv(output)
    frame = scorer.score(str(demo_studies())).to_frame()
    assert list(frame) == list(written)
    assert list(frame.row_id) == list(written.row_id)
    grades = list(GRADES)
    np.testing.assert_allclose(frame[grades], written[grades], rtol=0, atol=10**-DIGITS)
    np.testing.assert_allclose(frame[grades].sum(axis=1), 1, rtol=0, atol=1e-12)


def test_places_are_those_of_the_evidence(scorer: Scorer, of_files: StudyScore) -> None:
    frame = scorer.score(demo_studies()).to_frame(places=True)
    assert len(frame) == 2 * 25
    by_place = frame.set_index(["study_id", "condition", "level"])
    for group in of_files.groups:
        for index, (condition, level) in enumerate(group.group.locations):
            row = by_place.loc[of_files.study_id, condition, level]
            assert row.filled == ""
            for grade, name in enumerate(GRADES):
                at = index * len(GRADES) + grade
                place = group.places[at]
                assert row[name] == group.probability[index, grade]
                assert row[f"{name}_peak"] == group.peak[at]
                assert row[f"{name}_file"] == str(place.file)
                seen = row[f"{name}_frame"], row[f"{name}_x"], row[f"{name}_y"]
                assert seen == (place.frame, place.x, place.y)


def test_a_prior_row_has_no_place(scorer: Scorer, study: Study, tmp_path: Path) -> None:
    root = demo_studies() / "test_images" / study.study_id
    (series,) = study.of(SPINAL)
    frame = scorer.score(root / series.series_id).to_frame(places=True)
    prior = frame[frame.condition.str.contains("foraminal")]
    assert set(prior.filled) == {Reason.SERIES_MISSING}
    assert set(prior.severe_file) == {""}
    assert prior.severe_peak.isna().all() and prior.severe_x.isna().all()


def test_what_was_found_before_gives_the_same(scorer: Scorer) -> None:
    frames = [
        scorer.score(data).to_frame()
        for data in (
            demo_studies(),
            [demo_studies() / "test_images", str(demo_studies())],
            find_studies(demo_studies()),
            stream_studies(demo_studies()),
        )
    ]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0])


def test_studies_are_chosen_by_id_or_by_a_list(
    scorer: Scorer, study: Study, tmp_path: Path
) -> None:
    table = tmp_path / "wanted.csv"
    table.write_text(f"study_id\n{study.study_id}\n")
    for wanted in ([study.study_id], table, str(table)):
        scores = scorer.score(demo_studies(), studies=wanted)
        assert scores.count == 1
        assert [score.study_id for score in scores] == [study.study_id]


def test_relevant_slices_are_fewer(scorer: Scorer, of_files: StudyScore) -> None:
    counts = [
        sum(group.slice_count for group in score.groups)
        for score in (of_files, next(scorer.score(demo_studies(), slices="relevant")))
    ]
    assert 0 < counts[1] < counts[0]  # the outermost sagittal T2 slices
    with pytest.raises(UsageError, match="slices 'best' is none of all, relevant"):
        scorer.score(demo_studies(), slices="best")


def test_options_for_paths_are_refused_with_what_was_found(scorer: Scorer) -> None:
    with pytest.raises(UsageError, match="for paths"):
        scorer.score(find_studies(demo_studies()), studies=["1"])


def test_nothing_to_score_is_an_error(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="holds no MR image"):
        scorer.score(tmp_path)
    with pytest.raises(DataError, match="is not there"):
        scorer.score(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no folder or file"):
        scorer.score([])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ids": "hash"}, "ids 'hash' is none of folder, uid"),
        ({"workers": -1}, "workers is -1"),
        ({"studies": []}, "list of studies is empty"),
    ],
)
def test_invalid_options_are_refused(scorer: Scorer, options: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        scorer.score(demo_studies(), **options)  # type: ignore[arg-type]


def test_ids_may_be_numbers(scorer: Scorer, study: Study) -> None:
    """As a column of a data frame has them."""
    (score,) = scorer.score(demo_studies(), studies=[int(study.study_id)])  # type: ignore[list-item]
    assert score.study_id == study.study_id


def test_a_closed_scorer_says_so(toy_bundle: Path) -> None:
    with Scorer(toy_bundle, device="cpu") as closed:
        scores = closed.score(demo_studies(), workers=1)
        next(scores)
    assert list(scores) == [] and not multiprocessing.active_children()
    with pytest.raises(UsageError, match="is closed"):
        closed.score(demo_studies())
    with pytest.raises(UsageError, match="batch_size is 0"):
        Scorer(toy_bundle, batch_size=0)


def test_a_file_is_written_as_the_command_writes_it(
    toy_bundle: Path, toy_root: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    (root / "test_images" / "7").rename(root / "test_images" / "=1+1")
    run(root / "test_images", "--bundle", toy_bundle, "--output", tmp_path / "a.csv")
    with Scorer(toy_bundle) as scorer:
        scorer.score(root / "test_images").to_csv(tmp_path / "b.csv")
        frame = scorer.score(root / "test_images", studies=["=1+1"]).to_frame(places=True)
        assert set(frame.study_id) == {"=1+1"}
        left = scorer.score(root / "test_images")
        columns = list(left.to_frame(places=True))
        assert list(left.to_frame(places=True)) == columns == list(frame)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert "'=1+1_" in (tmp_path / "b.csv").read_text()


def test_a_script_without_a_main_guard_is_run_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from rsna_lumbar.runtime import Scorer\n"
        "from rsna_lumbar.runtime.demo import demo_bundle, demo_studies\n"
        "with Scorer(demo_bundle(), device='cpu') as scorer:\n"
        "    print(len(scorer.score(demo_studies(), workers=2).to_frame()))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["once", "50"], "")


def test_threads_that_score_leave_the_process_as_it_was(toy_bundle: Path) -> None:
    main, errors = sys.modules["__main__"], os.fstat(2)

    def score() -> int:
        with Scorer(toy_bundle, device="cpu") as scorer:
            return len(scorer.score(demo_studies(), workers=3).to_frame())

    with ThreadPoolExecutor(3) as threads:
        assert [one.result() for one in [threads.submit(score) for _ in range(3)]] == [50] * 3
    assert sys.modules["__main__"] is main
    assert os.path.samestat(os.fstat(2), errors)


@pytest.mark.parametrize(("most", "workers"), [(1000, 0), (10, 1)])
def test_large_jobs_are_decoded_elsewhere(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, most: int, workers: int
) -> None:
    monkeypatch.setattr(pipeline, "FILES_WORTH_A_POOL", most)
    monkeypatch.setattr(pipeline, "default_workers", lambda *_, **__: 1)
    scores = scorer.score(demo_studies())
    next(scores)
    assert len(multiprocessing.active_children()) == workers
    scores.close()


def test_progress_counts_studies(scorer: Scorer) -> None:
    seen: list[tuple[int, int]] = []
    list(scorer.score(demo_studies(), progress=lambda done, of: seen.append((done, of))))
    assert seen == [(1, 2), (2, 2)]


def test_an_abandoned_iterator_can_be_closed(scorer: Scorer) -> None:
    scores = scorer.score(demo_studies(), workers=1)
    next(scores)
    scores.close()
    assert list(scores) == []


# In memory


def images_of(study: Study) -> dict[str, list[pydicom.FileDataset]]:
    return {
        group.name: [pydicom.dcmread(file) for one in study.of(group) for file in one.files]
        for group in GROUPS
    }


def assert_alike(one: StudyScore, other: StudyScore) -> None:
    for a, b in zip(one.groups, other.groups, strict=True):
        assert a.slice_count == b.slice_count
        np.testing.assert_allclose(a.probability, b.probability, rtol=0, atol=ROUNDING)


def test_data_sets_give_the_scores_of_their_files(
    scorer: Scorer, study: Study, of_files: StudyScore
) -> None:
    """In any order: they are put into that of the patient."""
    images = {name: some[::-1] for name, some in images_of(study).items()}
    found = scorer.score_study(**images, study_id=study.study_id)
    assert found.study_id == study.study_id
    assert not [skip for skip in found.skips if not skip.harmless]
    assert {one.group_from for one in found.study.series} == {FROM_CALLER}
    assert_alike(found, of_files)
    for a, b in zip(found.groups, of_files.groups, strict=True):
        assert {place.file.parent.name for place in a.places} == {a.group.name}
        assert [(p.x, p.y) for p in a.places] == [(p.x, p.y) for p in b.places]


def test_arrays_that_stand_as_the_patient_does_give_them_too(
    scorer: Scorer, study: Study, of_files: StudyScore
) -> None:
    arrays = {
        group.name: [
            (frame.turn or AS_STORED).image(frame.pixels)
            for one in study.of(group)
            for file in one.files
            for frame in read_frames(file)
        ]
        for group in GROUPS
    }
    assert_alike(scorer.score_study(**arrays), of_files)


def test_a_stack_of_arrays_is_a_list_of_slices(scorer: Scorer) -> None:
    stack = np.random.default_rng(0).integers(0, 900, (3, 40, 50), np.uint16)
    (spinal, *others) = scorer.score_study(spinal=list(stack)).groups
    assert (spinal.slice_count, spinal.filled) == (3, None)
    assert {group.filled for group in others} == {Reason.SERIES_MISSING}


def test_a_bad_image_is_named_and_the_others_are_scored(scorer: Scorer, study: Study) -> None:
    some = images_of(study)["spinal"]
    del some[1].PixelData
    found = scorer.score_study(spinal=some)
    (fault,) = [skip for skip in found.skips if skip.reason is not Reason.SERIES_MISSING]
    assert (fault.what, fault.reason) == ("spinal/1", Reason.NO_PIXELS)
    assert found.groups[0].slice_count == len(some) - 1


def test_a_data_set_that_no_file_holds_will_do(
    scorer: Scorer, study: Study, of_files: StudyScore
) -> None:
    """As a network service hands it over."""
    images = {name: list(map(as_received, some)) for name, some in images_of(study).items()}
    assert_alike(scorer.score_study(**images), of_files)
    del images["spinal"][0].file_meta
    with pytest.raises(DataError, match="spinal/0 has no file meta information"):
        scorer.score_study(**images)


def as_received(file: pydicom.FileDataset) -> pydicom.Dataset:
    received = pydicom.Dataset(file)
    received.file_meta = file.file_meta
    return received


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((4, 4)), r"foraminal/0 is float64 of shape \(4, 4\)"),
        (np.zeros((2, 4, 4), np.int16), r"foraminal/0 is int16 of shape \(2, 4, 4\)"),
        (np.zeros((0, 0), np.int16), r"foraminal/0 is int16 of shape \(0, 0\)"),
        (np.zeros((4, 4), np.uint64), r"foraminal/0 is uint64 .* at most 32 bits"),
    ],
)
def test_an_array_that_is_no_slice_is_refused(scorer: Scorer, image: np.ndarray, told: str) -> None:
    with pytest.raises(DataError, match=told):
        scorer.score_study(foraminal=[image])


def test_images_that_nothing_can_read_are_refused(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no image was given"):
        scorer.score_study()
    write_toy_bundle(tmp_path / "b", groups=(SPINAL, SUBARTICULAR))
    with (
        Scorer(tmp_path / "b", device="cpu") as partial,
        pytest.raises(UsageError, match="no foraminal detector"),
    ):
        partial.score_study(foraminal=[np.zeros((9, 9), np.uint8)])


# What it says, and to whom


def test_the_log_says_what_the_command_says(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    write_toy_bundle(tmp_path / "b", groups=(SPINAL,))
    write_clinical_slice(tmp_path / "a" / "1", np.ones((32, 32), np.uint16))
    (tmp_path / "a" / "cut.dcm").write_bytes((tmp_path / "a" / "1").read_bytes()[:400])
    (tmp_path / "a" / "note.txt").write_text("hello")
    with (
        caplog.at_level(logging.DEBUG, logger="rsna_lumbar"),
        Scorer(tmp_path / "b", device="cpu") as scorer,
    ):
        list(scorer.score(tmp_path / "a"))
    by_level = {
        level: [r.getMessage() for r in caplog.records if r.levelno == level]
        for level in (logging.INFO, logging.WARNING, logging.DEBUG)
    }
    assert by_level[logging.INFO][0].startswith("onnxruntime fp32 on cpu")
    assert by_level[logging.INFO][1].startswith("the bundle has no foraminal and subarticular")
    assert any("cut.dcm" in line for line in by_level[logging.WARNING])
    assert any("note.txt: not_dicom" in line for line in by_level[logging.DEBUG])


# The runtime library's own options


def test_options_reach_the_runtime_library(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "session.intra_op.allow_spinning"
    opened: list[ort.InferenceSession] = []
    create = ort.InferenceSession

    def note(*given: object, **options: object) -> ort.InferenceSession:
        opened.append(create(*given, **options))
        return opened[-1]

    monkeypatch.setattr(ort, "InferenceSession", note)
    with Scorer(toy_bundle, backend="onnxruntime", options={key: "0"}):
        settings = [one.get_session_options() for one in opened]
        assert [one.get_session_config_entry(key) for one in settings] == ["0"] * len(GROUPS)
    with pytest.raises(UsageError, match="refuses the config entry"):
        Scorer(toy_bundle, backend="onnxruntime", options={"x" * 5000: "1"})
    with pytest.raises(UsageError, match="refuses the config entry"):
        Scorer(toy_bundle, backend="onnxruntime", options={"a": 1})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="name its backend"):
        Scorer(toy_bundle, options={key: "0"})
