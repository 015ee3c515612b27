"""The phantom: same options, same bytes; the challenge's layout; true geometry; drawn grades."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage, RLELossless

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import (
    FORAMINAL,
    GRADE_TITLES,
    GROUP_BY_KIND,
    GROUPS,
    LEVELS,
    LOCATIONS,
    ROW_LOCATIONS,
    SPINAL,
    SUBARTICULAR,
    SUBMISSION_COLUMNS,
    Group,
    condition_title,
    level_title,
    row_id,
)
from rsna_lumbar.train.phantom import QUIRKS, USUAL_QUIRKS, PhantomOptions, make_phantom
from rsna_lumbar.train.phantom.acquisition import plan_series
from rsna_lumbar.train.phantom.anatomy.anatomy import Spine, canal_point, draw_spine, side_of
from rsna_lumbar.train.phantom.anatomy.grades import (
    Finding,
    Findings,
    draw_findings,
    level_frequencies,
)
from rsna_lumbar.train.phantom.anatomy.plane import Field, Vector, centred_plane
from rsna_lumbar.train.phantom.anatomy.solids import AXES
from rsna_lumbar.train.phantom.drawing import paint
from rsna_lumbar.train.phantom.landmarks import landmark_mm, mark_points
from rsna_lumbar.train.phantom.seeds import StudySeed
from rsna_lumbar.train.phantom.study import make_spine, study_scene

SMALL = PhantomOptions(
    studies=2, matrix_px=40, slices_sagittal=5, slices_axial=10, sagittal_spacing_mm=9.0
)
FACTS = Path(__file__).parents[1] / "data"
RSNA_LIKE = Path(__file__).parents[3] / "shared" / "data" / "rsna_like"
# (7FE0,0010) OB of undefined length, a basic offset table of one frame, and the delimiter.
ENCAPSULATED = bytes.fromhex("e07f10004f420000fffffffffeff00e00400000000000000feff00e0")
DELIMITED = bytes.fromhex("feffdde000000000")
TITLES = {condition_title(c): c for c, _ in LOCATIONS}
LEVEL_TITLES = {level_title(level): level for level in LEVELS}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def headers(root: Path) -> dict[tuple[str, str, str], pydicom.Dataset]:
    """(study, series, instance) -> header, of the train part."""
    return {
        (path.parts[-3], path.parts[-2], path.stem): pydicom.dcmread(path)
        for path in (root / "train_images").rglob("*.dcm")
    }


def with_quirks(out: Path, *names: str, studies: int = 1, share: float = 1.0) -> Path:
    options = replace(SMALL, studies=studies, quirks=frozenset(names), quirk_share=share)
    make_phantom(out, options)
    return out


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "data"
    make_phantom(out, SMALL)
    return out


def test_no_studies_gives_empty_tables(tmp_path: Path) -> None:
    make_phantom(tmp_path / "empty", replace(SMALL, studies=0))
    assert read(tmp_path / "empty" / "train.csv") == []
    assert list((tmp_path / "empty" / "train_images").iterdir()) == []


def test_refuses_a_folder_in_use(root: Path) -> None:
    with pytest.raises(DataError, match="not an empty folder"):
        make_phantom(root, SMALL)


@pytest.mark.parametrize(
    "change",
    [
        {"quirks": frozenset({"no-such"})},
        {"studies": -1},
        {"overlap": 0.5},
        {"grade_frequencies": (0.0, 0.0, 0.0)},
        {"matrix_px": 8},
    ],
)
def test_refuses_options_out_of_range(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        PhantomOptions(**change)  # type: ignore[arg-type]


def test_same_bytes_whatever_the_workers_and_progress_counts(root: Path, tmp_path: Path) -> None:
    done: list[int] = []
    make_phantom(tmp_path / "again", SMALL, workers=2, progress=done.append)
    assert digests(tmp_path / "again") == digests(root)
    assert done == [1, 1]


def test_a_study_does_not_depend_on_the_others_but_on_the_seed(root: Path, tmp_path: Path) -> None:
    make_phantom(tmp_path / "three", replace(SMALL, studies=3))
    more = digests(tmp_path / "three")
    images = {name: digest for name, digest in digests(root).items() if name.endswith(".dcm")}
    assert images.items() <= more.items()
    make_phantom(tmp_path / "other", replace(SMALL, seed=1))
    assert not images.keys() & digests(tmp_path / "other").keys()


def test_tables_are_spelled_as_the_challenge_spells_them(root: Path) -> None:
    assert (root / "train_label_coordinates.csv").read_text().splitlines()[0] == (
        "study_id,series_id,instance_number,condition,level,x,y"
    )
    assert (
        (root / "train_series_descriptions.csv")
        .read_bytes()
        .startswith(b"study_id,series_id,series_description\n")
    )
    train = read(root / "train.csv")
    assert list(train[0]) == ["study_id", *(f"{c}_{level}" for c, level in LOCATIONS)]
    assert {row[name] for row in train for name in list(row)[1:]} <= set(GRADE_TITLES)
    studies = [row["study_id"] for row in train]
    rows = read(root / "sample_submission.csv")
    assert tuple(rows[0]) == SUBMISSION_COLUMNS
    names = sorted(row_id(study, *place) for study in studies for place in ROW_LOCATIONS)
    assert [row["row_id"] for row in rows] == names
    assert all(abs(sum(float(row[n]) for n in SUBMISSION_COLUMNS[1:]) - 1) < 1e-9 for row in rows)


def test_every_location_has_one_point_on_a_file_of_its_kind(root: Path) -> None:
    kinds = {
        (row["study_id"], row["series_id"]): row["series_description"]
        for row in read(root / "train_series_descriptions.csv")
    }
    folders = {(path.parts[-2], path.parts[-1]) for path in (root / "train_images").glob("*/*")}
    assert folders == set(kinds)
    points, files = read(root / "train_label_coordinates.csv"), headers(root)
    assert len(points) == 25 * SMALL.studies
    for point in points:
        group = GROUP_BY_KIND[kinds[point["study_id"], point["series_id"]]]
        assert TITLES[point["condition"]] in group.conditions
        header = files[point["study_id"], point["series_id"], point["instance_number"]]
        assert 0 <= float(point["x"]) < header.Columns
        assert 0 <= float(point["y"]) < header.Rows


def test_test_part_has_its_own_studies_and_the_submission(tmp_path: Path) -> None:
    make_phantom(tmp_path / "both", replace(SMALL, studies=1, test_studies=1))
    (study,) = (path.name for path in (tmp_path / "both" / "test_images").iterdir())
    assert not (tmp_path / "both" / "train_images" / study).exists()
    table = read(tmp_path / "both" / "test_series_descriptions.csv")
    assert {row["study_id"] for row in table} == {study} and len(table) == 3
    rows = read(tmp_path / "both" / "sample_submission.csv")
    assert len(rows) == 25 and all(row["row_id"].startswith(f"{study}_") for row in rows)


def challenge_elements(*, rescaled: bool = False) -> list[tuple[str, str, str]]:
    """(part, keyword, VR) of a file, in its order."""
    return [
        (row["part"], row["keyword"], row["vr"])
        for row in read(FACTS / "challenge_elements.csv")
        if rescaled or row["presence"] == "always"
    ]


def elements(path: Path) -> list[tuple[str, str, str]]:
    header = pydicom.dcmread(path)
    parts = (("file_meta", header.file_meta), ("data_set", header))
    return [(part, element.keyword, element.VR) for part, data in parts for element in data]


def test_elements_are_those_of_the_challenge(tmp_path: Path) -> None:
    """The same ones in the same order, in file meta and data set; rescale tags in some studies."""
    options = replace(SMALL, studies=8, matrix_px=32, slices_sagittal=3, slices_axial=5)
    make_phantom(tmp_path / "many", options)
    files = sorted((tmp_path / "many").rglob("*.dcm"))
    seen = {(path.parts[-3], "RescaleSlope" in pydicom.dcmread(path)) for path in files}
    assert len(seen) == 8  # the same in all files of a study
    assert {rescaled for _, rescaled in seen} == {True, False}
    for path in files:
        assert elements(path) == challenge_elements(rescaled=(path.parts[-3], True) in seen)


@pytest.fixture(scope="module")
def rsna_like() -> list[Path]:
    """Files with the challenge's header form, beside the checkout where they are there at all."""
    if not RSNA_LIKE.is_dir():
        pytest.skip("the folder of files in the challenge's form is not there")
    return sorted(RSNA_LIKE.rglob("*.dcm"))


def test_elements_are_those_of_files_in_the_challenges_form(rsna_like: list[Path]) -> None:
    assert len(rsna_like) == 45
    for path in rsna_like:
        assert elements(path) == challenge_elements()


def assert_stored_like_the_challenge(path: Path) -> None:
    header, raw = pydicom.dcmread(path), path.read_bytes()
    study, series, instance = path.parts[-3], path.parts[-2], path.stem
    meta = header.file_meta
    assert meta.TransferSyntaxUID == RLELossless
    assert meta.MediaStorageSOPClassUID == EnhancedMRImageStorage
    assert meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID == f"{study}.1.{instance}"
    assert raw[:128] == bytes(128) and raw.count(ENCAPSULATED) == 1 and raw.endswith(DELIMITED)
    assert (header.StudyInstanceUID, header.PatientID) == (study, study)
    assert header.SeriesInstanceUID == f"{study}.{series}"
    assert header.InstanceNumber == int(instance)
    stored = (header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation)
    assert stored == (16, 12, 11, 0) and header.SamplesPerPixel == 1
    assert header.PhotometricInterpretation == "MONOCHROME2" and header.PatientPosition == "HFS"
    assert header.SeriesDescription in ("T1", "T2")
    assert re.fullmatch(r"\d{8}", header.ContentDate)
    assert re.fullmatch(r"\d{6}\.\d{6}", header.ContentTime)
    assert re.fullmatch(r"1\.2\.826\.0\.1\.3680043\.8\.498\.\d+", header.FrameOfReferenceUID)
    assert_plain_numbers(header)
    directions = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(*directions)
    away = float(np.array(header.ImagePositionPatient, float) @ normal)
    largest = normal[np.abs(normal).argmax()]
    assert abs(header.SliceLocation - away * np.sign(largest)) < 1e-3


def assert_plain_numbers(header: pydicom.Dataset) -> None:
    """Decimal strings of at most 16 characters, no exponent, no empty digits: 4, not 4.0."""
    for element in header:
        if element.VR == "DS":
            parts = element.value if element.VM > 1 else [element.value]
            for part in parts:
                text = str(getattr(part, "original_string", part))
                assert len(text) <= 16, element
                assert re.fullmatch(r"-?\d+(\.\d*[1-9])?", text), (element, text)


def test_files_are_stored_as_the_challenge_stores_them(root: Path) -> None:
    for path in root.rglob("*.dcm"):
        assert_stored_like_the_challenge(path)


def test_files_in_the_challenges_form_are_so_stored(rsna_like: list[Path]) -> None:
    """What is asked of the phantom is true of them."""
    for path in rsna_like:
        assert_stored_like_the_challenge(path)


def test_pixels_fill_twelve_bits(root: Path) -> None:
    for header in headers(root).values():
        pixels = header.pixel_array
        assert pixels.dtype == np.uint16 and 200 < pixels.max() < 4096
        assert pixels.shape == (SMALL.matrix_px, SMALL.matrix_px)


def kinds_of(root: Path) -> dict[str, str]:
    """Series -> kind, by the table: headers do not say it."""
    table = read(root / "train_series_descriptions.csv")
    return {row["series_id"]: row["series_description"] for row in table}


def test_descriptions_say_the_weighting(root: Path) -> None:
    kinds = kinds_of(root)
    for (_, series, _), header in headers(root).items():
        assert header.SeriesDescription == ("T1" if "T1" in kinds[series] else "T2")


def test_the_frame_of_reference_and_the_date_are_of_the_study(root: Path) -> None:
    seen = {
        (study, str(h.FrameOfReferenceUID), h.ContentDate, h.ContentTime)
        for (study, _, _), h in headers(root).items()
    }
    assert len(seen) == SMALL.studies == len({frame for _, frame, _, _ in seen})


def test_windows_vary_from_slice_to_slice(root: Path) -> None:
    assert len({float(header.WindowCenter) for header in headers(root).values()}) > 5


def test_points_are_landmarks_projected_through_the_header(tmp_path: Path) -> None:
    """Also where stacks are angled, matrices mixed and numbers full of holes."""
    names = ("axial-series", "mixed-sizes", "holes", "reversed")
    out = with_quirks(tmp_path / "odd", *names)
    spine, files = make_spine(StudySeed(0, 0, 0), SMALL), headers(out)
    kinds = kinds_of(out)
    points = read(out / "train_label_coordinates.csv")
    assert len(points) == 25
    for point in points:
        place = landmark_mm(spine, TITLES[point["condition"]], LEVEL_TITLES[point["level"]])
        header = files[point["study_id"], point["series_id"], point["instance_number"]]
        x, y, away = project(header, place)
        assert abs(x - float(point["x"])) < 1e-3 and abs(y - float(point["y"])) < 1e-3
        # No other slice of that kind is nearer.
        same = [h for key, h in files.items() if kinds[key[1]] == kinds[point["series_id"]]]
        assert away <= min(project(h, place)[2] for h in same) + 1e-4


def project(header: pydicom.Dataset, place: Vector) -> tuple[float, float, float]:
    """Column, row and distance from the plane, from nothing but the header (PS3.3 C.7.6.2.1)."""
    directions = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    offset = place - np.array(header.ImagePositionPatient, float)
    rows_mm, columns_mm = (float(value) for value in header.PixelSpacing)
    away = abs(float(offset @ np.cross(*directions)))
    return offset @ directions[0] / columns_mm, offset @ directions[1] / rows_mm, away


def test_left_is_left(root: Path) -> None:
    files = headers(root)
    for point in read(root / "train_label_coordinates.csv"):
        side = side_of(TITLES[point["condition"]])
        header = files[point["study_id"], point["series_id"], point["instance_number"]]
        if TITLES[point["condition"]] in FORAMINAL.conditions:
            assert side * header.ImagePositionPatient[0] > 5
        if TITLES[point["condition"]] in SUBARTICULAR.conditions:
            assert side * (float(point["x"]) - header.Columns / 2) > 0


def test_left_and_right_sagittal_slices_differ() -> None:
    """The liver makes the upper front of a right slice darker than that of a left one (T1)."""
    spine = make_spine(StudySeed(3, 0, 0), SMALL)
    left, right = (sagittal(spine, side * 20.0, "t1") for side in (1, -1))
    assert np.abs(left - right).mean() > 0.05


def test_without_cues_left_and_right_look_alike() -> None:
    """But for what the spine itself shows; 40 mm aside there is no spine."""
    spine = spine_of(0, 0)
    for aside, most in ((20.0, 0.03), (40.0, 0.02)):
        left, right = (sagittal(spine, side * aside + 0.25, "t1", cues=False) for side in (1, -1))
        assert np.abs(left - right).mean() < most
        assert left.std() > 0.1


def test_without_cues_levels_look_alike_beside_the_spine() -> None:
    def surroundings(level: str, *, cues: bool) -> Field:
        spine = spine_of(0, 0)
        place = canal_point(spine, spine.disc(level))
        plane = centred_plane(place, AXES[0], AXES[1], spacing_mm=2.0, shape=(81, 81))
        scene = study_scene(StudySeed(7, 0, 0), spine, cues=cues)
        image = paint(scene, plane, "t2", np.zeros((81, 81), np.float32))
        return np.concatenate([image[:, :12], image[:, -12:]], axis=1)

    def change(*, cues: bool) -> float:
        upper, lower = (surroundings(level, cues=cues) for level in ("l2_l3", "l4_l5"))
        return float(np.abs(upper - lower).mean())

    assert change(cues=False) < 0.25 * change(cues=True)


def test_shifted(root: Path, tmp_path: Path) -> None:
    def aside(files: dict[tuple[str, str, str], pydicom.Dataset]) -> float:
        places = [
            float(one.ImagePositionPatient[0])
            for one in files.values()
            if abs(one.ImageOrientationPatient[1]) > 0.5
        ]
        return abs(float(np.mean(places)))

    study = sorted(key[0] for key in headers(root))[0]
    plain = {key: one for key, one in headers(root).items() if key[0] == study}
    shifted = headers(with_quirks(tmp_path / "q", "shifted"))
    assert aside(shifted) > aside(plain) + 1


def test_short_coverage(tmp_path: Path) -> None:
    out = with_quirks(tmp_path / "q", "short-coverage", studies=2)
    unread = [f"{condition}_l1_l2" for condition in SUBARTICULAR.conditions]
    for row in read(out / "train.csv"):
        assert {name for name, value in row.items() if not value} == set(unread)
    rows = read(out / "train_label_coordinates.csv")
    points = [TITLES[row["condition"]] + row["level"] for row in rows]
    assert len(points) == 2 * 23
    assert SUBARTICULAR.conditions[0] + "L1/L2" not in points


def test_a_phantom_without_cues_has_the_stacks_of_real_studies(tmp_path: Path) -> None:
    make_phantom(tmp_path / "q", replace(SMALL, studies=1, cues=False, quirk_share=1.0))
    files = headers(tmp_path / "q")
    assert list(orientations(files).values()) == [4]  # angled to each of four discs
    assert len(read(tmp_path / "q" / "train_label_coordinates.csv")) == 23


def test_levels_are_drawn_where_the_discs_are() -> None:
    spine = make_spine(StudySeed(0, 0, 0), SMALL)
    heights = [landmark_mm(spine, SPINAL.conditions[0], level)[2] for level in LEVELS]
    assert all(20 < upper - lower < 50 for upper, lower in pairwise(heights))


def spine_of(grade: int, index: int) -> Spine:
    """One anatomy with every location at the centre of a grade."""
    finding = Finding(grade, (0.15, 0.5, 0.85)[grade])
    findings = Findings(dict.fromkeys(LOCATIONS, finding), (0.5,) * 5)
    return draw_spine(StudySeed(7, 0, index).rng("anatomy"), findings)


def sagittal(spine: Spine, x: float, weighting: str, *, cues: bool = True) -> Field:
    """Noise-free, 1 mm pixels, 220 mm."""
    plane = centred_plane(np.array([x, -20.0, -10.0]), AXES[1], -AXES[2], spacing_mm=1.0,
                          shape=(220, 220))  # fmt: skip
    texture = np.zeros((220, 220), np.float32)
    return paint(study_scene(StudySeed(7, 0, 0), spine, cues=cues), plane, weighting, texture)


def bright_mm2(
    spine: Spine, condition: str, level: str, weighting: str, half_mm: tuple[int, int]
) -> float:
    """Area of bright pixels around a landmark, in the plane it is read in.

    ``half_mm``: half height and half width of the rectangle looked at.
    """
    place = landmark_mm(spine, condition, level)
    axial = condition in SUBARTICULAR.conditions
    axes = (AXES[0], AXES[1]) if axial else (AXES[1], -AXES[2])
    shape = (4 * half_mm[0] + 1, 4 * half_mm[1] + 1)
    plane = centred_plane(place, *axes, spacing_mm=0.5, shape=shape)
    texture = np.zeros(shape, np.float32)
    image = paint(study_scene(StudySeed(7, 0, 0), spine), plane, weighting, texture)
    return float((image > 0.6).sum()) / 4


@pytest.mark.parametrize(
    ("group", "weighting", "half_mm"),
    [(SPINAL, "t2", (2, 9)), (FORAMINAL, "t1", (9, 9)), (SUBARTICULAR, "t2", (4, 4))],
    ids=lambda value: getattr(value, "name", None),
)
def test_each_grade_leaves_less_room(
    group: Group, weighting: str, half_mm: tuple[int, int]
) -> None:
    """Fluid or fat around the landmark shrinks by a fifth, then by a third at least."""
    areas = np.array([
        [
            np.mean([bright_mm2(spine_of(grade, i), condition, level, weighting, half_mm)
                     for i in range(2)])
            for condition, level in group.locations
        ]
        for grade in range(3)
    ])  # fmt: skip
    assert (areas[1] < 0.8 * areas[0]).all(), areas
    assert (areas[2] < 0.67 * areas[1]).all(), areas


def test_grade_frequencies_are_those_asked() -> None:
    asked = (0.77, 0.16, 0.06)
    table = level_frequencies(asked)
    assert np.allclose(table.mean(axis=0), np.array(asked) / 0.99)
    assert (table >= 0).all() and table[3, 2] > 2 * table[0, 2]
    found = [draw_findings(np.random.default_rng(i), asked, 0.05) for i in range(1500)]
    grades = np.array([[f.of_location[place].grade for place in LOCATIONS] for f in found])
    shares = np.array([(grades == grade).mean() for grade in range(3)])
    assert np.allclose(shares, np.array(asked) / 0.99, atol=0.015)
    left, right = (grades[:, 5 + 5 * i : 10 + 5 * i].ravel() for i in range(2))
    assert 0.15 < np.corrcoef(left, right)[0, 1] < 0.8


@pytest.mark.parametrize("asked", [(1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
def test_any_frequencies_can_be_asked(asked: tuple[float, float, float]) -> None:
    table = level_frequencies(asked)
    assert (table >= -1e-12).all() and np.allclose(table.mean(axis=0), np.array(asked) / sum(asked))


@pytest.mark.parametrize("overlap", [0.0, 0.05, 0.2])
def test_overlap_is_the_share_beyond_one_border(overlap: float) -> None:
    found = [
        finding
        for i in range(400)
        for finding in draw_findings(np.random.default_rng(i), (0, 1, 0), overlap)
        .of_location.values()
    ]  # fmt: skip
    beyond = np.mean([finding.severity > 0.675 for finding in found])
    assert abs(beyond - overlap) < 0.01


def test_holes(tmp_path: Path) -> None:
    files = headers(with_quirks(tmp_path / "q", "holes"))
    for series in {key[1] for key in files}:
        numbers = sorted(int(key[2]) for key in files if key[1] == series)
        assert numbers[0] > 1 and max(np.diff(numbers)) > 1


def test_reversed(root: Path, tmp_path: Path) -> None:
    odd = headers(with_quirks(tmp_path / "q", "reversed"))
    kinds = kinds_of(root) | kinds_of(tmp_path / "q")
    for axis, text, sign in ((0, "Sagittal", 1), (2, "Axial", -1)):
        for files, direction in ((headers(root), sign), (odd, -sign)):
            study = sorted(key[0] for key in odd)[0]
            for series in {k[1] for k in files if k[0] == study and text in kinds[k[1]]}:
                ordered = sorted((int(k[2]), float(h.ImagePositionPatient[axis]))
                                 for k, h in files.items() if k[1] == series)  # fmt: skip
                assert (direction * np.diff([place for _, place in ordered]) > 0).all()


def orientations(files: dict[tuple[str, str, str], pydicom.Dataset]) -> dict[str, int]:
    """Axial series -> number of different orientations."""
    found: dict[str, set[tuple[float, ...]]] = {}
    for key, header in files.items():
        if abs(header.ImageOrientationPatient[0]) > 0.5:  # rows run from right to left
            found.setdefault(key[1], set()).add(tuple(header.ImageOrientationPatient))
    return {series: len(seen) for series, seen in found.items()}


def test_axial_stacks_and_series(root: Path, tmp_path: Path) -> None:
    assert set(orientations(headers(root)).values()) == {1}
    assert list(orientations(headers(with_quirks(tmp_path / "a", "axial-stacks"))).values()) == [5]
    split = orientations(headers(with_quirks(tmp_path / "b", "axial-series")))
    assert 2 <= len(split) <= 4 and sum(split.values()) == 5


def test_mixed_sizes(tmp_path: Path) -> None:
    files = headers(with_quirks(tmp_path / "q", "mixed-sizes", studies=3))
    shapes: dict[str, set[tuple[int, int]]] = {}
    for key, header in files.items():
        shapes.setdefault(key[1], set()).add((header.Rows, header.Columns))
    assert any(len(seen) > 1 for seen in shapes.values())
    assert any(rows != columns for seen in shapes.values() for rows, columns in seen)


def test_missing_series(tmp_path: Path) -> None:
    out = with_quirks(tmp_path / "q", "missing-series", studies=4)
    kinds = {(row["study_id"], row["series_description"])
             for row in read(out / "train_series_descriptions.csv")}  # fmt: skip
    assert len(kinds) == 8
    for row in read(out / "train_label_coordinates.csv"):
        group = next(g for g in GROUP_BY_KIND.values() if TITLES[row["condition"]] in g.conditions)
        assert (row["study_id"], group.series_kind) in kinds
    assert all(row[name] for row in read(out / "train.csv") for name in row)


def test_empty_labels(tmp_path: Path) -> None:
    out = with_quirks(tmp_path / "q", "empty-labels", studies=3)
    for row in read(out / "train.csv"):
        assert 1 <= list(row.values()).count("") <= 12
    assert len(read(out / "train_label_coordinates.csv")) < 75


def test_wrong_series(tmp_path: Path) -> None:
    out = with_quirks(tmp_path / "q", "wrong-series", studies=2)
    kind = {row["series_id"]: row["series_description"]
            for row in read(out / "train_series_descriptions.csv")}  # fmt: skip
    wrong = Counter(row["study_id"] for row in read(out / "train_label_coordinates.csv")
                    if TITLES[row["condition"]] in SPINAL.conditions
                    and kind[row["series_id"]] == FORAMINAL.series_kind)  # fmt: skip
    assert len(wrong) == 2 and set(wrong.values()) == {1}


def test_crlf(tmp_path: Path) -> None:
    out = with_quirks(tmp_path / "q", "crlf")
    table = (out / "train_series_descriptions.csv").read_bytes()
    assert table.count(b"\r\n") == table.count(b"\n") == 4
    assert b"\r" not in (out / "train.csv").read_bytes()


def test_rescale_tags(tmp_path: Path) -> None:
    for header in headers(with_quirks(tmp_path / "q", "rescale-tags")).values():
        assert (header.RescaleIntercept, header.RescaleSlope) == (0, 1)
    for header in headers(with_quirks(tmp_path / "none")).values():
        assert "RescaleSlope" not in header
    assert PhantomOptions().quirks == USUAL_QUIRKS == {"rescale-tags"}


def test_empty_description(tmp_path: Path) -> None:
    out = with_quirks(tmp_path / "q", "empty-description")
    for path in out.rglob("*.dcm"):
        assert elements(path) == challenge_elements()
        assert pydicom.dcmread(path).SeriesDescription == ""


def test_clinical_header(tmp_path: Path) -> None:
    """An ordinary file: it names class, body part and times, and every UID is a valid one."""
    out = with_quirks(tmp_path / "q", "clinical-header")
    kinds, files = kinds_of(out), headers(out)
    for (_, series, _), header in files.items():
        meta = header.file_meta
        assert header.SOPClassUID == meta.MediaStorageSOPClassUID == MRImageStorage
        assert meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert "FileMetaInformationGroupLength" in meta
        assert header.Modality == "MR" and header.BodyPartExamined == "LSPINE"
        assert list(header.ImageType)[:2] == ["ORIGINAL", "PRIMARY"]
        assert header.ScanningSequence == "SE" and header.PatientName == ""
        assert header.ProtocolName and header.PatientID
        t1, axial = "T1" in kinds[series], "Axial" in kinds[series]
        assert header.SeriesDescription.startswith("AX" if axial else "SAG")
        assert ("T1" if t1 else "T2") in header.SeriesDescription
        assert header.EchoTime < 20 and header.RepetitionTime < 800 if t1 else header.EchoTime > 80
        for element in header:
            if element.VR == "UI":
                assert pydicom.uid.UID(element.value).is_valid, element
    assert len({header.SOPInstanceUID for header in files.values()}) == len(files)
    assert len({header.SeriesInstanceUID for header in files.values()}) == len(kinds)
    assert len({header.StudyInstanceUID for header in files.values()}) == 1


@pytest.fixture(scope="module")
def places() -> dict[tuple[str, str], Field]:
    """(group, axis) -> where the labels of 150 studies lie, as shares of the square."""
    found: dict[tuple[str, str], list[float]] = {}
    options = PhantomOptions()
    for index in range(150):
        seed = StudySeed(5, 0, index)
        spine = make_spine(seed, options)
        for point in mark_points(spine, plan_series(seed, options, spine, frozenset())):
            group = next(g for g in GROUPS if point.condition in g.conditions)
            for axis, pixel in (("column", point.x), ("row", point.y)):
                share = (pixel + 0.5) / options.matrix_px
                found.setdefault((group.name, axis), []).append(share)
    return {key: np.array(shares) for key, shares in found.items()}


@pytest.mark.parametrize(
    "row", read(FACTS / "label_positions.csv"), ids=lambda r: f"{r['group']}-{r['axis']}"
)
def test_labels_lie_where_those_of_the_challenge_do(
    row: dict[str, str], places: dict[tuple[str, str], Field]
) -> None:
    """Quantiles from 1 % to 99 %, within 4 % of the side; the median of an axis within 3 %."""
    shares = places[row["group"], row["axis"]]
    asked = {int(name[1:]): float(value) for name, value in row.items() if name[0] == "p"}
    drawn = np.percentile(shares, list(asked))
    assert np.abs(drawn - list(asked.values())).max() < 0.04, drawn
    assert abs(np.median(shares) - asked[50]) < 0.03
    assert shares.min() > 0 and shares.max() < 1


def test_sagittal_labels_lie_in_the_middle_of_the_square(
    places: dict[tuple[str, str], Field],
) -> None:
    """Columns 0.42 to 0.69, median 0.55, as all but a hundredth of the challenge's do."""
    shares = np.concatenate([places["spinal", "column"], places["foraminal", "column"]])
    low, middle, high = np.percentile(shares, (1, 50, 99))
    assert 0.40 < low < 0.46 and 0.53 < middle < 0.57 and 0.64 < high < 0.71
    assert shares.min() > 0.38 and shares.max() < 0.75


def test_axial_labels_lie_in_the_middle_of_the_slice(places: dict[tuple[str, str], Field]) -> None:
    """The middle 7/12 each way holds 99.995 % of the challenge's."""
    for axis in ("column", "row"):
        away = np.abs(places["subarticular", axis] - 0.5)
        assert away.max() < 7 / 24


def test_quirks_touch_only_a_share_of_the_studies(tmp_path: Path) -> None:
    files = headers(with_quirks(tmp_path / "q", "holes", studies=6, share=0.5))
    first = {study: min(int(k[2]) for k in files if k[0] == study) for study, _, _ in files}
    assert 0 < sum(number > 1 for number in first.values()) < 6


def test_all_quirks_at_once(tmp_path: Path) -> None:
    out = with_quirks(tmp_path / "q", *QUIRKS, studies=2)
    assert len(read(out / "train.csv")) == 2
