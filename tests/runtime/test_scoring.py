"""The pipeline against the pixels themselves, worked out in numpy without it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ending import DEADLINE_S
from toys import SIZE_PX, offsets, slopes, write_clinical_study, write_toy_bundle

from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.backends import Outputs, SessionSettings, Wait, load_backend, onnxruntime
from rsna_lumbar.runtime.backends.onnxruntime import OnnxSession
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import Detector, Model
from rsna_lumbar.runtime.bundle.store import read_model
from rsna_lumbar.runtime.core.errors import BackendError, BundleError, UsageError, run_failed
from rsna_lumbar.runtime.core.labels import GROUPS, SPINAL, Group
from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities, set_peaks
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason
from rsna_lumbar.runtime.decode import worker_pool
from rsna_lumbar.runtime.dicom.slices import read_slices
from rsna_lumbar.runtime.inference import loaded_bundle
from rsna_lumbar.runtime.inference.pipeline import scored
from rsna_lumbar.runtime.inference.scores import StudyScore
from rsna_lumbar.runtime.run.submission import submission_lines, submission_rows
from rsna_lumbar.runtime.studies.finder import find_studies, stream_studies
from rsna_lumbar.runtime.studies.study import Study

# float32 logits of about 5 and a sigmoid that ONNX Runtime computes to 1e-7.
ROUNDING = 1e-6


def score(
    bundle: Path, data: Path, *, batch_size: int | None = None, workers: int = 0
) -> list[StudyScore]:
    with Scorer(bundle, device="cpu", batch_size=batch_size) as scorer:
        return list(scorer.score(find_studies(data), workers=workers))


def by_hand(images: np.ndarray, group: Group) -> np.ndarray:
    """Peaks (C,) of the toy network: its logits rise with the brightest pixel of all slices."""
    logits = images.max() / 255 * slopes(group).astype(np.float64) + offsets(group)
    return 1 / (1 + np.exp(-logits))


def images_of(series: Path) -> np.ndarray:
    return np.stack(
        [read_slices(path, SIZE_PX, Preprocessing())[0].image for path in series.iterdir()]
    )


def test_probabilities_are_those_of_the_pixels(toy_bundle: Path, toy_root: Path) -> None:
    studies = score(toy_bundle, toy_root)
    assert [study.study_id for study in studies] == ["100", "12", "7"]
    for study in studies:
        for group_score, series in zip(study.groups, ("11", "22", "33"), strict=True):
            folder = toy_root / "test_images" / study.study_id / series
            expected = by_hand(images_of(folder), group_score.group)
            assert group_score.slice_count == len(list(folder.iterdir()))
            assert group_score.filled is None
            np.testing.assert_allclose(group_score.peak, expected, atol=ROUNDING)
            np.testing.assert_allclose(
                group_score.probability, probabilities(expected, Calibration()), atol=ROUNDING
            )


def test_places_point_at_the_brightest_pixel(toy_bundle: Path, toy_root: Path) -> None:
    """The cell of a peak is the first, so one of P3: its centre is within 4 px of the spot."""
    for study in score(toy_bundle, toy_root):
        for group_score in study.groups:
            place = group_score.places[0]
            pixels = pydicom.dcmread(place.file).pixel_array
            rows, columns = np.nonzero(pixels > 1400)
            scale = SIZE_PX / max(pixels.shape)
            off = max(abs(place.x - columns.mean()), abs(place.y - rows.mean()))
            assert off * scale <= 4 + 2 * scale


def test_rows_are_25_normalised_and_in_order(toy_bundle: Path, toy_root: Path) -> None:
    rows = [row for study in score(toy_bundle, toy_root) for row in submission_rows(study)]
    names = [name for name, *_ in rows]
    assert len(names) == 75
    assert names == sorted(names)
    np.testing.assert_allclose([sum(grades) for _, *grades in rows], 1, atol=1e-12)


def as_text(studies: list[StudyScore]) -> str:
    return "".join(map(submission_lines, studies))


def test_workers_and_file_order_change_no_byte(
    toy_bundle: Path, toy_root: Path, tmp_path: Path
) -> None:
    expected = as_text(score(toy_bundle, toy_root))
    assert as_text(score(toy_bundle, toy_root, workers=1)) == expected
    assert as_text(score(toy_bundle, toy_root, workers=2)) == expected
    files = sorted(toy_root.rglob("*.dcm"), reverse=True)  # copied, so created, in reverse
    for path in files:
        target = tmp_path / path.relative_to(toy_root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    assert as_text(score(toy_bundle, tmp_path)) == expected


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
def test_another_batch_size_changes_only_rounding(
    toy_bundle: Path, toy_root: Path, batch_size: int
) -> None:
    """Batches of 1 and 2 are smaller than every set, so their parts are combined on the host."""
    expected = score(toy_bundle, toy_root, batch_size=16)
    for study, other in zip(
        expected, score(toy_bundle, toy_root, batch_size=batch_size), strict=True
    ):
        for one, two in zip(study.groups, other.groups, strict=True):
            np.testing.assert_allclose(one.probability, two.probability, rtol=0, atol=1e-6)
            assert one.places == two.places


def test_calibration_reaches_the_graph(toy_root: Path, tmp_path: Path) -> None:
    calibration = Calibration(0.5, (0.0, 0.3, -0.2), 0.4)
    write_toy_bundle(tmp_path / "bundle", calibration)
    for study in score(tmp_path / "bundle", toy_root):
        for one in study.groups:
            assert one.peak is not None
            assert (one.peak < calibration.floor).any()
            expected = probabilities(one.peak, calibration)
            np.testing.assert_allclose(one.probability, expected, atol=ROUNDING)


def test_an_ensemble_of_equals_is_the_single_detector(
    toy_bundle: Path, toy_root: Path, tmp_path: Path
) -> None:
    write_toy_bundle(tmp_path / "two", detectors=2)
    alone, together = score(toy_bundle, toy_root), score(tmp_path / "two", toy_root)
    for one, two in zip(alone, together, strict=True):
        for a, b in zip(one.groups, two.groups, strict=True):
            np.testing.assert_array_equal(a.peak, b.peak)
            np.testing.assert_allclose(a.probability, b.probability, atol=ROUNDING)


def test_a_missing_series_gets_the_prior(toy_bundle: Path, toy_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    shutil.rmtree(root / "test_images" / "12" / "11")
    for path in (root / "test_images" / "7" / "22").iterdir():
        path.write_text("broken")
    table = "study_id,series_id,series_description\n7,22,Sagittal T1\n"
    (root / "test_series_descriptions.csv").write_text(table)
    by_id = {study.study_id: study for study in score(toy_bundle, root)}
    spinal, _, _ = by_id["12"].groups
    _, foraminal, _ = by_id["7"].groups
    assert spinal.filled is Reason.SERIES_MISSING
    assert foraminal.filled is Reason.NO_READABLE_SLICE
    np.testing.assert_allclose(spinal.probability, [[0.6, 0.25, 0.15]] * 5)
    assert [skip.reason for skip in by_id["12"].skips] == [Reason.SERIES_MISSING]
    reasons = [skip.reason for skip in by_id["7"].skips]
    assert reasons == [*[Reason.NOT_DICOM] * 4, Reason.NO_READABLE_SLICE]
    untouched = {s.study_id: s for s in score(toy_bundle, toy_root)}["100"]
    assert submission_lines(by_id["100"]) == submission_lines(untouched)


def test_more_studies_than_a_chunk(toy_bundle: Path, toy_root: Path) -> None:
    """Chunks of one study: batches cannot be shared, results cannot differ but by rounding."""
    expected = score(toy_bundle, toy_root)
    found = find_studies(toy_root)
    with Scorer(toy_bundle, device="cpu") as scorer:
        alone = list(scored(scorer, found, scorer.decoded(found), studies_a_chunk=1))
    assert [study.study_id for study in alone] == [study.study_id for study in expected]
    for one, two in zip(alone, expected, strict=True):
        for a, b in zip(one.groups, two.groups, strict=True):
            np.testing.assert_allclose(a.probability, b.probability, rtol=0, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_first_study_is_scored_before_the_last_is_looked_into(
    toy_bundle: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is looked into, decoded and scored ahead does not grow with their number."""
    monkeypatch.setattr(worker_pool, "IN_HAND", 8)
    for number in range(40):
        write_clinical_study(
            tmp_path / "test_images", str(100 + number), seed=number, counts=(2, 2, 2)
        )
    looked: list[str] = []

    def seen(studies: Iterable[Study]) -> Iterator[Study]:
        for study in studies:
            looked.append(study.study_id)
            yield study

    found = stream_studies(tmp_path)
    stream = replace(found, studies=seen(found.studies))
    assert (looked, stream.count) == ([], 40)
    ahead = []
    with Scorer(toy_bundle, device="cpu", batch_size=4) as scorer:
        for number, score in enumerate(scorer.score(stream, workers=workers), start=1):
            assert score.study_id == looked[number - 1]
            ahead.append(len(looked) - number)
    assert len(ahead) == 40
    assert ahead[0] <= max(ahead) <= 8


def test_the_toy_graph_is_the_reference(toy_bundle: Path) -> None:
    """What these tests rest on: the toy's outputs for an empty set, and several sets a batch."""
    detector = read_bundle(toy_bundle).detectors[0]
    content = read_model(toy_bundle, detector.models[0])
    backend = load_backend("onnxruntime")
    images = np.random.default_rng(3).integers(0, 256, (4, SIZE_PX, SIZE_PX)).astype(np.uint8)
    images[0] //= 3
    member = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]], bool)
    (model,) = detector.models
    with backend.open_session(content, model, detector, SessionSettings("cpu", 1)) as session:
        outputs = session.run(images, member)
    slice_peaks = np.stack([by_hand(image, SPINAL) for image in images])
    peaks, where = set_peaks(slice_peaks, member)
    np.testing.assert_allclose(outputs.peak, peaks, atol=ROUNDING)
    np.testing.assert_array_equal(outputs.slice, where)
    np.testing.assert_array_equal(outputs.cell[1], -1)
    np.testing.assert_allclose(outputs.probability[1], detector.prior, atol=1e-7)


def test_a_changed_model_is_never_opened(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))
    model = bundle / read_bundle(bundle).detectors[1].models[0].files[0].name
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="SHA-256"):
        Scorer(bundle)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "tensorflow"}, "no backend 'tensorflow'"),
        ({"device": "cuda:99"}, "cuda:99 is not there"),
        ({"device": "tpu"}, "'tpu' is no GPU"),
    ],
)
def test_what_cannot_be_had_is_refused(
    toy_bundle: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Scorer(toy_bundle, **options)


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_batches_under_way_change_no_byte(
    toy_bundle: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """As many as the session says, never more; their answers in the order of the batches."""
    expected = [submission_lines(study) for study in score(toy_bundle, toy_root, batch_size=2)]
    under_way, most = [0], [0]
    start = OnnxSession.start

    def counted(self: OnnxSession, slices: Any, member: Any) -> Wait:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        answer = start(self, slices, member)

        def wait() -> Outputs:
            under_way[0] -= 1
            return answer()

        return wait

    monkeypatch.setattr(OnnxSession, "start", counted)
    monkeypatch.setattr(OnnxSession, "ahead", ahead)
    found = [submission_lines(study) for study in score(toy_bundle, toy_root, batch_size=2)]
    assert found == expected
    assert (most, under_way) == ([ahead], [0])


def test_a_bundle_that_is_replaced_while_it_is_opened(
    toy_bundle: Path, toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest was read, then another export removed its files: the new ones serve."""
    bundle = Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))
    expected = score(toy_bundle, toy_root)
    opened = loaded_bundle.open_best

    def replaced(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(loaded_bundle, "open_best", opened)
        manifest = bundle / "bundle.json"
        text = manifest.read_text()
        for path in bundle.glob("*.onnx"):
            path.rename(bundle / f"new-{path.name}")
            text = text.replace(path.name, f"new-{path.name}")
        manifest.write_text(text)
        return opened(*arguments, **options)

    monkeypatch.setattr(loaded_bundle, "open_best", replaced)
    found = score(bundle, toy_root)
    assert list(map(submission_lines, found)) == list(map(submission_lines, expected))


def test_a_stream_that_was_gone_through_is_no_empty_answer(
    toy_bundle: Path, toy_root: Path
) -> None:
    with Scorer(toy_bundle, device="cpu") as scorer:
        stream = stream_studies(toy_root)
        sets = list(scorer.decoded(stream))
        with pytest.raises(ValueError, match="can be gone through once"):
            list(scorer.scored(stream, sets))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fits", [1, 3, 7])
def test_batches_that_do_not_fit_into_memory_are_halved(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: int, workers: int
) -> None:
    """As often as it takes; sets are cut, nothing is scored twice or lost."""
    for number in range(5):
        counts = (20 - number, 3 + 5 * number, number)
        write_clinical_study(
            tmp_path / "test_images", str(100 + number), seed=number, counts=counts
        )
    expected = score(toy_bundle, tmp_path, batch_size=8)
    compute = OnnxSession.compute

    def limited(session: OnnxSession, slices: np.ndarray, member: np.ndarray) -> Outputs:
        if len(slices) > fits:
            raise run_failed("Failed to allocate memory for requested buffer of size 1234")
        return compute(session, slices, member)

    monkeypatch.setattr(OnnxSession, "compute", limited)
    with Scorer(toy_bundle, device="cpu", batch_size=8) as scorer:
        found = list(scorer.score(find_studies(tmp_path), workers=workers))
        size = {7: 4, 3: 2, 1: 1}[fits]
        assert scorer.batch_size == size
        assert "out of memory with batches of 8: 4 from there on" in scorer.note
    assert [one.study_id for one in found] == [one.study_id for one in expected]
    rows, reference = (
        [r for s in scores for r in submission_rows(s)] for scores in (found, expected)
    )
    assert [row[0] for row in rows] == [row[0] for row in reference]
    values, wanted = ([row[1:] for row in some] for some in (rows, reference))
    np.testing.assert_allclose(values, wanted, rtol=0, atol=ROUNDING)
    places = [[g.places for g in s.groups] for s in found]
    assert places == [[g.places for g in s.groups] for s in expected]


def test_memory_for_no_slice_at_all_is_an_error(
    toy_bundle: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> Outputs:
        raise run_failed("CUDA error cudaErrorMemoryAllocation:out of memory")

    monkeypatch.setattr(OnnxSession, "compute", never)
    with pytest.raises(BackendError, match="out of memory with one slice in a batch"):
        score(toy_bundle, toy_root)


@pytest.mark.parametrize("refused", GROUPS, ids=lambda group: group.name)
def test_what_opened_is_closed_where_another_model_does_not(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, refused: Group
) -> None:
    """Models open side by side."""
    open_session, opened, closed = onnxruntime.open_session, [], []
    another = threading.Event()

    def some_fail(content: Any, model: Model, detector: Detector, settings: Any) -> OnnxSession:
        if detector.group is refused:
            assert another.wait(DEADLINE_S)
            raise BackendError("no memory")
        session = open_session(content, model, detector, settings)
        close = session.close
        monkeypatch.setattr(session, "close", lambda: (closed.append(session), close()))
        opened.append(session)
        another.set()
        return session

    monkeypatch.setattr(onnxruntime, "open_session", some_fail)
    with pytest.raises(BackendError, match="no memory"):
        Scorer(toy_bundle, device="cpu")
    assert opened
    assert set(map(id, opened)) == set(map(id, closed))


def test_groups_come_in_the_order_of_the_table(toy_bundle: Path, toy_root: Path) -> None:
    study = score(toy_bundle, toy_root)[0]
    assert tuple(one.group for one in study.groups) == GROUPS
