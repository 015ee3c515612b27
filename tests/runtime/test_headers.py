"""Facts of a header: in the plainest form, in other forms, and in the groups of enhanced MR."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)
from toys import AXIAL, SAGITTAL, slice_pixels, write_clinical_slice

from rsna_lumbar.runtime.core.labels import FORAMINAL
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom import dataset as dataset_module
from rsna_lumbar.runtime.dicom import header
from rsna_lumbar.runtime.dicom.dataset import open_dicom, quiet_pydicom
from rsna_lumbar.runtime.dicom.header import mr_claim, read_header
from rsna_lumbar.runtime.dicom.raw_values import (
    plain_integer,
    plain_numbers,
    plain_text,
    tag_and_vr,
)
from rsna_lumbar.runtime.dicom.slices import read_frames
from rsna_lumbar.runtime.studies.finder import find_studies, stream_studies


def parsed(keyword: str, value: bytes, vr: str | None = None) -> Dataset:
    """A dataset with one element as pydicom's parser leaves it."""
    tag, usual = tag_and_vr(keyword)
    raw = RawDataElement(tag, vr or usual, len(value), value, 0, False, True)
    return Dataset({tag: raw})


def converted(keyword: str, value: bytes) -> object:
    with quiet_pydicom():
        return parsed(keyword, value)[Tag(keyword)].value


@given(
    st.lists(
        st.floats(-1e6, 1e6).map(lambda number: f"{number:.6g}")
        | st.sampled_from(["1", " 2", "3 ", "+4.", "-.5", "1E2", "1.5e-03"]),
        min_size=1,
        max_size=6,
    )
)
def test_plain_decimals_are_what_pydicom_converts_them_to(parts: list[str]) -> None:
    value = "\\".join(parts).encode()
    numbers = plain_numbers(parsed("ImagePositionPatient", value), "ImagePositionPatient")
    assert numbers is not None
    assert list(numbers) == list(np.atleast_1d(converted("ImagePositionPatient", value)))  # type: ignore[call-overload]


@given(st.binary(max_size=12))
def test_a_value_is_left_to_pydicom_or_the_same(value: bytes) -> None:
    """Whatever stands there."""
    numbers = plain_numbers(parsed("RescaleSlope", value), "RescaleSlope")
    if numbers is not None:
        assert list(numbers) == list(np.atleast_1d(converted("RescaleSlope", value)))  # type: ignore[call-overload]
    number = plain_integer(parsed("InstanceNumber", value), "InstanceNumber")
    assert number is None or number == converted("InstanceNumber", value)
    rows = plain_integer(parsed("Rows", value), "Rows")
    assert rows is None or rows == converted("Rows", value)
    code = plain_text(parsed("Modality", value), "Modality")
    assert code is None or code == converted("Modality", value)


@pytest.mark.parametrize(
    "value", [b"", b"1_0", b"nan", b"inf", b"0x1", b"1\\\\2", b"1 2", b"\\", b"1\0", b"1,5"]
)
def test_other_forms_are_left_to_pydicom(value: bytes) -> None:
    assert plain_numbers(parsed("RescaleSlope", value), "RescaleSlope") is None


def test_another_vr_is_left_to_pydicom() -> None:
    assert plain_numbers(parsed("Rows", b"\1\0", "SS"), "Rows") is None
    assert plain_text(parsed("Modality", b"MR", "LO"), "Modality") is None
    assert plain_text(parsed("SeriesDescription", b"MR"), "SeriesDescription") is None


def test_big_endian_rows() -> None:
    tag = Tag("Rows")
    dataset = Dataset({tag: RawDataElement(tag, "US", 2, b"\1\0", 0, False, False)})
    assert plain_integer(dataset, "Rows") == 256


def group(**elements: object) -> list[Dataset]:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return [item]


def write_enhanced(path: Path, frames: int) -> None:
    """Orientation, spacing and slope shared by all frames, positions a frame (PS3.3 C.7.6.16)."""
    stack = np.stack([slice_pixels(seed) for seed in range(frames)])
    dataset = write_clinical_slice(
        path,
        stack,
        SOPClassUID=EnhancedMRImageStorage,
        NumberOfFrames=frames,
        ImageOrientationPatient=None,
        ImagePositionPatient=None,
        PixelSpacing=None,
    )
    dataset.SharedFunctionalGroupsSequence = group(
        PlaneOrientationSequence=group(ImageOrientationPatient=SAGITTAL),
        PixelMeasuresSequence=group(PixelSpacing=[2, 4]),
        PixelValueTransformationSequence=group(RescaleSlope=-2, RescaleIntercept=1),
    )
    dataset.PerFrameFunctionalGroupsSequence = [
        group(PlanePositionSequence=group(ImagePositionPatient=[index, 0, 0]))[0]
        for index in range(frames)
    ]
    dataset.save_as(path)


def test_enhanced_mr_has_its_facts_in_groups(tmp_path: Path) -> None:
    """48 rows of 2 mm run down, 40 columns of 4 mm to the back: 39/2 * 4 = 78, 47/2 * 2 = 47."""
    write_enhanced(tmp_path / "a.dcm", 3)
    frames = read_frames(tmp_path / "a.dcm")
    assert [frame.geometry.centre_mm for frame in frames if frame.geometry] == [
        (0.0, 78.0, -47.0),
        (1.0, 78.0, -47.0),
        (2.0, 78.0, -47.0),
    ]
    assert {frame.spacing_mm for frame in frames} == {(2.0, 4.0)}
    assert all(frame.inverted for frame in frames)
    assert read_header(tmp_path / "a.dcm").orientation == tuple(map(float, SAGITTAL))


def test_missing_facts_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    bare = {"ImagePositionPatient": None, "PixelSpacing": None, "InstanceNumber": None}
    write_clinical_slice(path, slice_pixels(1), **bare)
    (frame,) = read_frames(path)
    assert (frame.geometry, frame.spacing_mm, frame.instance_number) == (None, None, None)


@pytest.mark.parametrize("size_limit", [0, 2**26])
def test_a_file_too_large_for_one_piece_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_limit: int
) -> None:
    monkeypatch.setattr(dataset_module, "WHOLE_FILE_BYTES", size_limit)
    write_clinical_slice(tmp_path / "a.dcm", slice_pixels(1))
    (frame,) = read_frames(tmp_path / "a.dcm")
    np.testing.assert_array_equal(frame.pixels, slice_pixels(1))


def test_a_damaged_header_is_always_a_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """pydicom parses without looking into values, and raises all sorts where it then does."""
    write_enhanced(tmp_path / "a.dcm", 2)
    original = (tmp_path / "a.dcm").read_bytes()
    end = original.index(slice_pixels(0).tobytes()[:64])
    dice = random.Random(1)
    reasons = set()
    for _ in range(400):
        changed = bytearray(original)
        for _ in range(dice.choice((1, 3, 9))):
            changed[dice.randrange(132, end)] = dice.randrange(256)
        (tmp_path / "b.dcm").write_bytes(changed)
        for read in (read_frames, read_header):
            try:
                read(tmp_path / "b.dcm")
            except SkipFile as skip:
                reasons.add(skip.reason)
    assert reasons >= {Reason.UNREADABLE, Reason.NOT_MR_IMAGE, Reason.BAD_PIXELS}
    capfd.readouterr()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_only_so_much_of_a_header_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: UID
) -> None:
    """Of a large file, or of one that inflates to much; whoever wants the pixels has it all."""
    write_enhanced(tmp_path / "a.dcm", 2)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.add_new((0x0029, 0x0010), "LO", "many")
    for number in range(100):
        dataset.add_new((0x0029, 0x1000 + number), "LO", "x" * 60)
    if syntax == DeflatedExplicitVRLittleEndian:
        dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "b.dcm")
    header = read_header(tmp_path / "b.dcm")
    assert header.orientation is not None
    monkeypatch.setattr(dataset_module, "MOST_HEADER_BYTES", 10_000)  # the header has 9 thousand
    assert read_header(tmp_path / "b.dcm") == header
    monkeypatch.setattr(dataset_module, "MOST_HEADER_BYTES", 1000)
    with pytest.raises(SkipFile, match="a header of more than") as raised:
        read_header(tmp_path / "b.dcm")
    assert raised.value.reason is Reason.TOO_LARGE
    with open_dicom(tmp_path / "b.dcm") as opened:
        assert len(opened.PixelData) == 2 * slice_pixels(0).nbytes


def test_what_nobody_asked_for_is_passed_over(tmp_path: Path) -> None:
    """A private value that is larger than any header may be."""
    dataset = write_clinical_slice(tmp_path / "a.dcm", slice_pixels(0))
    header = read_header(tmp_path / "a.dcm")
    block = dataset.private_block(0x0009, "large", create=True)
    block.add_new(0x01, "OB", bytes(2 * dataset_module.MOST_HEADER_BYTES))
    dataset.save_as(tmp_path / "a.dcm")
    assert read_header(tmp_path / "a.dcm") == header


def test_what_pydicom_says_of_a_header_stays_inside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """Its warnings quote values."""
    path = tmp_path / "a.dcm"
    dataset = write_clinical_slice(path, slice_pixels(1))
    dataset.add(pydicom.DataElement(Tag("PixelSpacing"), "DS", ["1.0", "1.0"]))
    dataset.save_as(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1.0\\1.0 ", b"1.0\\Doe "))
    with open_dicom(path) as opened:
        assert header.pixel_spacing_mm(opened, 0) is None
    assert not caplog.records
    assert not recwarn.list


def test_positions_of_frames_count_before_that_of_the_root(tmp_path: Path) -> None:
    """Some scanners leave the first frame's, or zeros, at the root of an enhanced file."""
    write_enhanced(tmp_path / "a.dcm", 3)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [9, 9, 9], AXIAL
    dataset.PixelSpacing = [7, 7]
    dataset.save_as(tmp_path / "a.dcm")
    header = read_header(tmp_path / "a.dcm")
    assert header.centres_mm == tuple((float(x), 78.0, -47.0) for x in range(3))
    assert header.orientations == (tuple(map(float, SAGITTAL)),)
    assert header.spacing_mm == (2.0, 4.0)


def test_each_frame_of_an_enhanced_file_tells_how_it_was_acquired(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "a.dcm", 2)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.SharedFunctionalGroupsSequence[0].MRTimingAndRelatedParametersSequence = group(
        RepetitionTime=3000.0
    )
    for item, echo, plane in zip(
        dataset.PerFrameFunctionalGroupsSequence, (12.0, 96.0), (SAGITTAL, AXIAL), strict=True
    ):
        item.MREchoSequence = group(EffectiveEchoTime=echo)
        item.PlaneOrientationSequence = group(ImageOrientationPatient=plane)
        item.MRImageFrameTypeSequence = group(FrameType=["ORIGINAL", "PRIMARY", "WATER"])
    dataset.save_as(tmp_path / "a.dcm")
    header = read_header(tmp_path / "a.dcm")
    assert [one.echo_ms for one in header.acquisitions] == [12, 96]
    assert {one.repetition_ms for one in header.acquisitions} == {3000}
    assert {one.image_type for one in header.acquisitions} == {("ORIGINAL", "PRIMARY", "WATER")}
    assert header.orientations == (tuple(map(float, SAGITTAL)), tuple(map(float, AXIAL)))


@pytest.mark.parametrize(
    ("sop_class", "meta_class", "modality", "claim"),
    [
        (MRImageStorage, MRImageStorage, "MR", True),
        (None, EnhancedMRImageStorage, None, True),  # as in the challenge's files
        (None, None, "MR", True),
        (None, None, None, None),
        (None, None, "CT", False),
        (None, CTImageStorage, "MR", False),
        (CTImageStorage, MRImageStorage, "MR", False),
        ("1.2.826.0.1.3680043.8.498.77", None, "MR", True),  # an anonymiser replaced the class
        ("2.25.77", MRImageStorage, None, True),
        ("1.3.46.670589.11.0.0.12.1", None, "MR", False),  # a spectrum, of Philips' own
    ],
)
def test_what_says_that_a_file_is_an_mr_image(
    sop_class: str | None, meta_class: str | None, modality: str | None, claim: bool | None
) -> None:
    dataset = FileDataset("", {}, file_meta=FileMetaDataset())
    for target, keyword, value in (
        (dataset, "SOPClassUID", sop_class),
        (dataset.file_meta, "MediaStorageSOPClassUID", meta_class),
        (dataset, "Modality", modality),
    ):
        if value is not None:
            setattr(target, keyword, value)
    assert mr_claim(dataset) is claim


@pytest.mark.parametrize("layout", ["train_images", "tree"])
def test_a_file_that_says_nothing_is_read_where_something_names_its_series(
    tmp_path: Path, layout: str
) -> None:
    """The layout of the challenge, or a table; in a tree it is no MR image."""
    path = tmp_path / layout / "1" / "2" / "3.dcm"
    write_clinical_slice(path, slice_pixels(1), Modality=None)
    dataset = pydicom.dcmread(path)
    del dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPClassUID = ""
    pydicom.dcmwrite(path, dataset)
    assert len(read_frames(path)) == 1
    found = find_studies(tmp_path) if layout == "train_images" else stream_studies(tmp_path)
    table = tmp_path / "series.csv"
    table.write_text("study_id,series_id,series_description\n1,2,Sagittal T1\n")
    (listed,) = find_studies(tmp_path / layout, table).studies
    assert [(one.group, len(one.files)) for one in listed.series] == [(FORAMINAL, 1)]
    if layout == "train_images":
        assert [len(one.files) for study in found.studies for one in study.series] == [1]
    else:
        assert not found.ids
        assert [skip.reason for skip in found.strays] == [Reason.NOT_MR_IMAGE]


@pytest.mark.parametrize(
    "orientation", [[0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [0, 1, 0, 0, -1, 0]]
)
def test_directions_that_span_no_plane_say_nothing(
    tmp_path: Path, orientation: list[float]
) -> None:
    write_clinical_slice(tmp_path / "a.dcm", slice_pixels(1), ImageOrientationPatient=orientation)
    assert read_header(tmp_path / "a.dcm").orientation is None
    (frame,) = read_frames(tmp_path / "a.dcm")
    assert frame.geometry is None


def test_private_groups_of_a_frame_are_of_another_file(tmp_path: Path) -> None:
    """Philips keeps the classic header of each frame in (2005,140F), with times of its own."""
    write_enhanced(tmp_path / "a.dcm", 2)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    for item in dataset.PerFrameFunctionalGroupsSequence:
        item.MREchoSequence = group(EffectiveEchoTime=96.0)
        classic = group(EchoTime=3, ImagePositionPatient=[9, 9, 9])
        item.add_new(0x20050010, "LO", "Philips MR Imaging DD 005")
        item.add_new(0x2005140F, "SQ", classic)
    dataset.save_as(tmp_path / "a.dcm")
    header = read_header(tmp_path / "a.dcm")
    assert [one.echo_ms for one in header.acquisitions] == [96]
    assert header.centres_mm == ((0.0, 78.0, -47.0), (1.0, 78.0, -47.0))


def test_a_patient_is_told_by_a_hash_whatever_the_spelling(tmp_path: Path) -> None:
    def patient(text: str | None) -> str:
        write_clinical_slice(tmp_path / "a.dcm", slice_pixels(1), PatientID=text)
        return read_header(tmp_path / "a.dcm").patient

    assert patient("AB12") == patient("AB12^^^HOSPITAL&1.2.3&ISO")
    assert patient("AB 12") == patient("ab12 ") == patient("Ab^12") != patient("AB13")
    assert patient(None) == patient("  ") == ""
    assert "ab12" not in patient("AB12")
