"""A picture stands as the patient does, however it is stored."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage
from stored_ways import WAYS, Picture, store_in_another_way
from toys import AXIAL, SAGITTAL, slice_pixels, write_clinical_slice, write_clinical_study

from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.cli import main
from rsna_lumbar.runtime.core.anchors import cell_centre
from rsna_lumbar.runtime.core.preprocess import Preprocessing, square_slice
from rsna_lumbar.runtime.core.turning import AS_STORED, Turn
from rsna_lumbar.runtime.dicom.series_kind import plane_of
from rsna_lumbar.runtime.dicom.slices import Slice, read_frames, read_slices
from rsna_lumbar.runtime.dicom.standing import standing
from rsna_lumbar.runtime.inference.scores import StudyScore
from rsna_lumbar.runtime.run.submission import submission_lines
from rsna_lumbar.runtime.studies.finder import find_studies

# Where columns and rows of an upright picture grow to: patient axis and sign, LPS.
GROWS = {"axial": ((0, 1), (1, 1)), "sagittal": ((1, 1), (2, -1))}
PLANES = {"axial": AXIAL, "sagittal": SAGITTAL}
REAL_GEOMETRY = Path(__file__).parents[3] / "shared" / "data" / "real_geometry" / "slices.csv"


def turned(orientation: list[float], angles_deg: tuple[float, float, float]) -> np.ndarray:
    """Direction cosines turned about the patient's x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(angles_deg)):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[one, one] = about[two, two] = np.cos(angle)
        about[one, two], about[two, one] = -np.sin(angle), np.sin(angle)
        matrix = about @ matrix
    cosines = np.array(orientation, float)
    return np.concatenate([matrix @ cosines[:3], matrix @ cosines[3:]])


# Degrees about x, y and z: all at once, and the plane's own largest ones alone.
ANY_TILT = st.tuples(*[st.floats(-25, 25)] * 3)
STEEPEST = {
    "axial": st.tuples(st.floats(-50, 50), st.just(0.0), st.just(0.0)),
    "sagittal": st.tuples(st.just(0.0), st.just(0.0), st.floats(-40, 40)),
}


@st.composite
def pictures(draw: st.DrawFn) -> tuple[str, Picture]:
    """An upright picture of an oblique plane."""
    plane = draw(st.sampled_from(sorted(PLANES)))
    angles = draw(ANY_TILT | STEEPEST[plane])
    rows, columns = draw(st.integers(2, 40)), draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spacing = draw(st.tuples(*[st.floats(0.25, 2)] * 2))
    return plane, Picture.of(
        rng.integers(0, 4096, (rows, columns)).astype(np.uint16),
        turned(PLANES[plane], angles),
        position_mm=rng.uniform(-300, 300, 3),
        spacing_mm=tuple(round(one, 4) for one in spacing),
    )


def read_one(folder: Path, picture: Picture) -> Slice:
    write_clinical_slice(
        folder / "a.dcm", np.ascontiguousarray(picture.pixels), **picture.elements()
    )
    (one,) = read_slices(folder / "a.dcm", 32, Preprocessing())
    return one


@settings(max_examples=40, deadline=None)
@given(pictures(), st.floats(0, 1), st.floats(0, 1))
def test_all_eight_ways_of_storing_give_one_square(
    drawn: tuple[str, Picture], across: float, down: float
) -> None:
    """The same bytes, and places of the square that mean the same anatomy."""
    _, upright = drawn
    expected = square_slice(upright.pixels, 32, Preprocessing(), inverted=False)
    x, y = across * (upright.pixels.shape[1] - 1), down * (upright.pixels.shape[0] - 1)
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            stored = upright.stored(way)
            one = read_one(Path(folder), stored)
            np.testing.assert_array_equal(one.image, expected)
            assert (one.rows, one.columns) == stored.pixels.shape
            there = stored.place_of(upright.mm(x, y))
            square = one.placement.to_square(*there)
            if way == WAYS[0]:
                first = square
            assert square == pytest.approx(first, abs=1e-6)
            assert one.placement.to_image(*square) == pytest.approx(there, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(pictures(), st.sampled_from(WAYS))
def test_what_a_detector_sees_stands_as_the_patient_does(
    drawn: tuple[str, Picture], way: tuple[bool, bool, bool]
) -> None:
    """Steps to the right and down in the square, followed back through the file, in the patient."""
    plane, upright = drawn
    stored = upright.stored(way)
    with tempfile.TemporaryDirectory() as folder:
        place = read_one(Path(folder), stored).placement
    origin, right, below = (
        stored.mm(*place.to_image(*at)) for at in ((16.0, 16.0), (17.0, 16.0), (16.0, 17.0))
    )
    for step, (axis, sign) in zip((right - origin, below - origin), GROWS[plane], strict=True):
        assert sign * step[axis] > 0


@given(st.tuples(*[st.floats(-180, 180)] * 3))
def test_of_the_eight_turns_the_one_that_agrees_best_is_taken(
    angles_deg: tuple[float, float, float],
) -> None:
    """By the sum of the cosines of columns and rows with where they should grow to."""
    picture = Picture.of(np.zeros((1, 1)), turned(AXIAL, angles_deg))
    orientation = (*picture.along_row, *picture.along_column)
    plane, turn = plane_of(orientation), standing(orientation)
    assert turn is not None
    if plane == "coronal":
        return
    agreements = {}
    for way in WAYS:
        other = picture.stored(way)
        agreements[way] = sum(
            sign * direction[axis]
            for direction, (axis, sign) in zip(
                (other.along_row, other.along_column), GROWS[plane], strict=True
            )
        )
    taken = agreements[turn.transposed, turn.mirrored, turn.upside_down]
    assert taken == pytest.approx(max(agreements.values()), abs=2e-6)


@pytest.mark.parametrize("way", WAYS)
def test_every_place_of_the_square_lies_in_the_file(
    way: tuple[bool, bool, bool], tmp_path: Path
) -> None:
    """Centres of all cells, those in the borders too."""
    picture = Picture.of(slice_pixels(1, (9, 30)), AXIAL).stored(way)
    write_clinical_slice(
        tmp_path / "a.dcm", np.ascontiguousarray(picture.pixels), **picture.elements()
    )
    (one,) = read_slices(tmp_path / "a.dcm", 96, Preprocessing())
    outside, cells = 0, 12**2 + 6**2 + 3**2
    for cell in range(cells):
        centre = cell_centre(cell, 96)
        x, y = one.placement.nearest_in_image(*centre)
        assert 0 <= x <= one.columns - 1 and 0 <= y <= one.rows - 1
        outside += (x, y) != one.placement.to_image(*centre)
    assert outside > cells / 2  # the test is about something


def test_an_upright_picture_is_not_copied() -> None:
    image = np.zeros((30, 20), np.uint8)
    assert AS_STORED.image(image) is image
    for flags in WAYS[1:]:
        upright = Turn(*flags).image(image)
        assert upright.flags.c_contiguous and upright.shape in ((30, 20), (20, 30))


def test_real_stacks_need_no_turning() -> None:
    if not REAL_GEOMETRY.is_file():
        pytest.skip("the table of real slices' geometry is not there; they were not checked")
    with REAL_GEOMETRY.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    planes = set()
    for row in rows:
        orientation = tuple(float(row[name]) for name in ("rx", "ry", "rz", "cx", "cy", "cz"))
        planes.add(plane_of(orientation))
        assert standing(orientation) == AS_STORED
    assert len(rows) == 174 and planes == {"axial", "sagittal"}


def test_real_files_need_no_turning(real_mr: Path) -> None:
    files = sorted(real_mr.rglob("*.dcm"))
    turns = [frame.turn for path in files for frame in read_frames(path)]
    assert len(turns) >= len(files) > 0
    assert set(turns) == {AS_STORED}


def test_a_coronal_picture_stays_as_it_is() -> None:
    for first, second in itertools.product(([1, 0, 0], [-1, 0, 0]), ([0, 0, 1], [0, 0, -1])):
        assert standing((*first, *second)) == standing((*second, *first)) == AS_STORED


@pytest.mark.parametrize("sign", [1, -1])
def test_a_stack_turned_by_45_degrees_stands_in_one_way(sign: int) -> None:
    """Two turns agree equally well then; the same one is taken for every way of storing."""
    pixels = slice_pixels(1)
    upright = Picture.of(pixels, turned(AXIAL, (0, 0, 45 * sign)))
    squares = set()
    for way in WAYS:
        stored = upright.stored(way)
        turn = standing((*stored.along_row, *stored.along_column))
        assert turn is not None
        squares.add(turn.image(np.ascontiguousarray(stored.pixels)).tobytes())
    assert len(squares) == 1


@pytest.mark.parametrize(
    "orientation",
    [None, [0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0], [1, 0, 0], "x"],
)
def test_without_an_orientation_it_stays_as_it_is(orientation: object, tmp_path: Path) -> None:
    pixels = slice_pixels(1)
    write_clinical_slice(tmp_path / "a.dcm", pixels, ImageOrientationPatient=None)
    if orientation is not None:
        dataset = pydicom.dcmread(tmp_path / "a.dcm")
        dataset.add_new("ImageOrientationPatient", "DS", "0")
        dataset["ImageOrientationPatient"]._value = orientation
        dataset.save_as(tmp_path / "a.dcm")
    (one,) = read_slices(tmp_path / "a.dcm", 64, Preprocessing())
    assert one.turn is None
    expected = square_slice(pixels, 64, Preprocessing(), inverted=False)
    np.testing.assert_array_equal(one.image, expected)


def test_an_orientation_counts_without_a_position(tmp_path: Path) -> None:
    mirrored = Picture.of(slice_pixels(1), AXIAL).stored((False, True, False))
    elements = mirrored.elements() | {"ImagePositionPatient": None, "PixelSpacing": None}
    write_clinical_slice(tmp_path / "a.dcm", np.ascontiguousarray(mirrored.pixels), **elements)
    (frame,) = read_frames(tmp_path / "a.dcm")
    assert (frame.geometry, frame.turn) == (None, Turn(mirrored=True))


def test_half_a_copy_is_doubted_by_the_rows_of_the_file(tmp_path: Path) -> None:
    """Its last rows are zeros; shown upright, an upside-down file has them on top."""
    pixels = slice_pixels(3, (64, 64)) + 1
    pixels[30:] = 0
    upside_down = Picture.of(pixels, [0, 1, 0, 0, 0, 1])
    write_clinical_slice(tmp_path / "a.dcm", pixels, **upside_down.elements())
    (one,) = read_slices(tmp_path / "a.dcm", 64, Preprocessing())
    assert one.turn == Turn(upside_down=True)
    assert not one.image[:34].any() and one.image[34:].any()
    assert one.doubt == "zeros from row 30 of 64 on"


def item(**elements: object) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def test_each_frame_of_an_enhanced_file_is_turned_by_its_own_orientation(tmp_path: Path) -> None:
    """Eight square frames of one picture, one in each way (PS3.3 C.7.6.16.2.4)."""
    upright = Picture.of(slice_pixels(1, (40, 40)), SAGITTAL)
    ways = [upright.stored(way) for way in WAYS]
    bare = dict.fromkeys(("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"))
    dataset = write_clinical_slice(
        tmp_path / "a.dcm",
        np.stack([one.pixels for one in ways]),
        SOPClassUID=EnhancedMRImageStorage,
        NumberOfFrames=len(ways),
        **bare,
    )
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[
                item(ImageOrientationPatient=one.elements()["ImageOrientationPatient"])
            ],
            PlanePositionSequence=[
                item(ImagePositionPatient=one.elements()["ImagePositionPatient"])
            ],
        )
        for one in ways
    ]
    dataset.save_as(tmp_path / "a.dcm")
    slices = read_slices(tmp_path / "a.dcm", 32, Preprocessing())
    assert (
        len({one.turn for one in slices}) == len({one.image.tobytes() for one in slices}) * 8 == 8
    )


def scored(bundle: Path, data: Path) -> list[StudyScore]:
    with Scorer(bundle, device="cpu") as scorer:
        return list(scorer.score(find_studies(data), workers=0))


def test_copies_stored_otherwise_give_the_same_rows_and_places(
    toy_bundle: Path, toy_root: Path, tmp_path: Path
) -> None:
    """Every slice in another way than its neighbour; places compared in the patient."""
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    kept = {}
    for number, path in enumerate(sorted(root.rglob("*.dcm"))):
        kept[path] = store_in_another_way(path, WAYS[number % len(WAYS)])
    plain, other = scored(toy_bundle, toy_root), scored(toy_bundle, root)
    assert list(map(submission_lines, plain)) == list(map(submission_lines, other))
    compared = 0
    for one, two in zip(plain, other, strict=True):
        for group, again in zip(one.groups, two.groups, strict=True):
            for place, there in zip(group.places, again.places, strict=True):
                assert there.file == root / place.file.relative_to(toy_root)
                before, after = kept[there.file]
                x, y = before.place_of(after.mm(there.x, there.y))
                assert (x, y) == pytest.approx((place.x, place.y), abs=1e-6)
                compared += 1
    assert compared > 100


def test_a_peak_in_the_border_is_placed_in_the_file(toy_bundle: Path, tmp_path: Path) -> None:
    """On black slices the toy network peaks in their grey border."""
    write_clinical_study(tmp_path / "test_images", "5", counts=(1, 1, 1))
    for path in tmp_path.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PixelData = bytes(len(dataset.PixelData))
        dataset.save_as(path)
    (study,) = scored(toy_bundle, tmp_path)
    places = [place for group in study.groups for place in group.places]
    assert places
    for place in places:
        assert 0 <= place.x <= 39 and 0 <= place.y <= 47
        assert place.x in (0, 39)


def test_slices_without_an_orientation_are_counted_and_said(
    toy_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clinical_study(tmp_path / "root" / "test_images", "5")
    for path in (tmp_path / "root" / "test_images" / "5" / "33").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.ImageOrientationPatient
        dataset.save_as(path)
    series = tmp_path / "root" / "test_series_descriptions.csv"
    lines = ["5,11,Sagittal T2/STIR", "5,22,Sagittal T1", "5,33,Axial T2"]
    series.write_text("\n".join(["study_id,series_id,series_description", *lines, ""]))
    words = ("--bundle", toy_bundle, "--output", tmp_path / "out.csv")
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in (tmp_path / "root", *words)])
    assert caught.value.code == 0
    counts = json.loads((tmp_path / "out.run.json").read_text())["counts"]
    assert (counts["slices_scored"], counts["slices_without_orientation"]) == (12, 5)
    said = "slices without ImageOrientationPatient, scored as they are stored: 5"
    assert said in capsys.readouterr().err.splitlines()
