"""Files in any wrapping: what is read of them, what is a fault, and what is no concern of a run.

The slices' headers are synthetic (``toys``).
"""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from faults import OTHER_CLASSES, odd_values
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import (
    PREAMBLE,
    directory_of,
    encrypted,
    end_of_meta,
    of_method,
    overlapping,
    tarred,
    zipped,
)
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from toys import SYNTAXES, slice_pixels, write_as, write_clinical_slice

from rsna_lumbar.runtime.core.reasons import HARMLESS, Reason, Skip, SkipFile
from rsna_lumbar.runtime.dicom import archives
from rsna_lumbar.runtime.dicom import dataset as dataset_module
from rsna_lumbar.runtime.dicom.dataset import open_dicom
from rsna_lumbar.runtime.dicom.file_kinds import OTHER, Kind, kind_of
from rsna_lumbar.runtime.dicom.header import HEADER_TAGS, read_header
from rsna_lumbar.runtime.dicom.pixels import stored_pixels
from rsna_lumbar.runtime.dicom.slices import read_frames
from rsna_lumbar.runtime.dicom.transfer_syntax import encapsulated_syntax
from rsna_lumbar.runtime.run.resuming import stamp
from rsna_lumbar.runtime.studies.scan import Walk
from rsna_lumbar.runtime.studies.study import Series, Study

PIXELS = slice_pixels(1, (12, 10))
MODES = (None, HEADER_TAGS)
DICM = bytes(PREAMBLE - 4) + b"DICM"


def reason(path: Path, tags: tuple[str, ...] | None = None) -> Reason:
    with pytest.raises(SkipFile) as raised, open_dicom(path, tags=tags):
        pass
    return raised.value.reason


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def require_slice(path: Path) -> None:
    """The same header and pixels as the slice."""
    assert read_header(path).study_uid == "1.2.3"
    (frame,) = read_frames(path)
    np.testing.assert_array_equal(frame.pixels, PIXELS)


@pytest.fixture
def good(tmp_path: Path) -> bytes:
    write_clinical_slice(tmp_path / "good", PIXELS)
    content = (tmp_path / "good").read_bytes()
    (tmp_path / "good").unlink()
    return content


def below(folder: Path) -> list[str]:
    skips: list[Skip] = []
    found = sorted(
        path.relative_to(folder).as_posix() for path in Walk(folder).below(folder, skips)
    )
    assert not skips
    return found


# Without preamble, prefix, meta information


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_meta_information_without_preamble(tmp_path: Path, syntax: UID) -> None:
    write_as(tmp_path / "a", PIXELS, syntax)
    require_slice(written(tmp_path / "b", (tmp_path / "a").read_bytes()[PREAMBLE:]))


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]
)
def test_a_data_set_alone(tmp_path: Path, syntax: UID) -> None:
    content = write_as(tmp_path / "a", PIXELS, syntax).read_bytes()
    path = written(tmp_path / "b", content[end_of_meta(content) :])
    require_slice(path)
    with open_dicom(path) as dataset:
        assert stored_pixels(dataset).decoded_by.startswith(syntax.name)


def test_meta_information_without_a_syntax(tmp_path: Path, good: bytes) -> None:
    element = good.index(b"\x02\x00\x10\x00UI")
    size = 8 + good[element + 6]
    require_slice(written(tmp_path / "a", good[:element] + good[element + size :]))


def test_pixels_of_an_unknown_syntax(tmp_path: Path, good: bytes) -> None:
    """Encapsulated, and nothing that is known."""
    dataset = pydicom.dcmread(io.BytesIO(good))
    dataset.compress(RLELossless)
    start = dataset.PixelData.index(struct.pack("<LL", 2, 64))
    pixels = bytearray(dataset.PixelData)
    pixels[start] = 99
    dataset.PixelData = bytes(pixels)
    stream = io.BytesIO()
    dataset.save_as(stream)
    content = stream.getvalue()
    path = written(tmp_path / "a", content[end_of_meta(content) :])
    assert read_header(path).study_uid == "1.2.3"
    with open_dicom(path) as opened, pytest.raises(SkipFile) as raised:
        stored_pixels(opened)
    assert raised.value.reason is Reason.UNKNOWN_TRANSFER_SYNTAX


def jpeg(marker: int) -> bytes:
    return b"\xff\xd8\xff\xe0\x00\x04ab\xff\xdb\x00\x03a\xff" + bytes([marker]) + bytes(20)


SIZE = b"\xff\x4f\xff\x51\x00\x06abcd"


@pytest.mark.parametrize(
    ("fragment", "syntax"),
    [
        (b"", None),
        (b"\xff\xd8", None),
        (b"\xff\xd8\xff\xe0\x00", None),
        (jpeg(0xC0), JPEGBaseline8Bit),
        (jpeg(0xC1), JPEGExtended12Bit),
        (jpeg(0xC2), None),  # progressive
        (jpeg(0xC3), JPEGLossless),
        (jpeg(0xF7), JPEGLSNearLossless),
        (SIZE + b"\xff\x52", JPEG2000),
        (SIZE + b"\xff\x50", HTJ2K),
        (struct.pack("<16L", 1, 64, *[0] * 14) + b"a", RLELossless),
        (struct.pack("<16L", 2, 64, 66, *[0] * 13) + b"abcd", RLELossless),
        (struct.pack("<16L", 2, 64, 66, *[0] * 13) + b"ab", None),  # the second is not there
        (struct.pack("<16L", 2, 64, 66, 1, *[0] * 12) + b"abcd", None),
        (struct.pack("<16L", 0, 64, *[0] * 14) + b"a", None),
        (bytes(100), None),
    ],
)
def test_a_syntax_told_by_its_first_bytes(fragment: bytes, syntax: UID | None) -> None:
    assert encapsulated_syntax(fragment) == syntax


def test_jpeg_2000_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    dataset = write_clinical_slice(tmp_path / "a", slice_pixels(1, (64, 56)))
    dataset.compress(JPEG2000Lossless)
    dataset.save_as(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    (frame,) = read_frames(written(tmp_path / "b", content[end_of_meta(content) :]))
    np.testing.assert_array_equal(frame.pixels, slice_pixels(1, (64, 56)))


# What is no DICOM


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        b"\x08\x00\x05\x00",
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",  # one element alone
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(50),
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100\x08\x00\x01\x00CS\x00\x00",  # not ascending
        b"\x08\x00\x05\x00\x03\x00\x00\x00abc\x08\x00\x08\x00\x02\x00\x00\x00ab",  # an odd length
        b"\x09\x00\x10\x00LO\x04\x00abcd\x09\x00\x11\x00LO\x00\x00" * 9,
        b"DICM" + bytes(500),
        b"text\n" * 1000,
        b"PK\x05\x06" + bytes(18),
        bytes(5000),
    ],
)
def test_no_dicom(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "a", content)
    assert [reason(path, tags) for tags in MODES] == [Reason.NOT_DICOM] * 2


@given(st.binary(max_size=400), st.sampled_from([b"", b"\x08\x00\x05\x00", b"\x02\x00\x00\x00UL"]))
def test_any_bytes_have_a_kind(content: bytes, begin: bytes) -> None:
    """And noise is nearly never taken for a data set, even if it begins as one."""
    assert kind_of(begin + content).kind is not Kind.DICOM or content[124:].startswith(b"DI")
    if not begin:
        assert kind_of(b"\x01" + content) == OTHER


def test_noise_is_no_data_set() -> None:
    dice = random.Random(0)
    begins = (b"\x08\x00\x05\x00", b"\x02\x00\x00\x00", b"\x00\x08\x00\x05", b"\x08\x00\x05\x00CS")
    found = [kind_of(begin + dice.randbytes(200), 204) for _ in range(5000) for begin in begins]
    assert found == [OTHER] * len(found)


@settings(max_examples=60, deadline=None)
@given(
    packing=st.sampled_from(["none", "gzip", "zip"]),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=4),
    length=st.integers(0, 2000),
)
def test_any_change_is_read_or_a_reason(
    packing: str,
    changes: list[tuple[int, int]],
    length: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    write_clinical_slice(folder / "good", PIXELS)
    content = (folder / "good").read_bytes()[PREAMBLE:]
    if packing == "gzip":
        content = gzip.compress(content)
    elif packing == "zip":
        content = zipped([("a", content)])
    (folder / "good").unlink()
    changed = bytearray(content)
    for place, value in changes:
        changed[place % len(changed)] = value
    written(folder / "a", bytes(changed[:length]))
    for path in Walk(folder).below(folder, []):
        for read in (read_header, read_frames):
            try:
                read(path)
            except SkipFile as skip:
                assert len(skip.detail) < 80


# Cut, and of another class


@pytest.mark.parametrize("form", ["whole", "challenge", "no preamble", "no meta"])
def test_an_mr_file_cut_anywhere_in_its_header_is_a_fault(tmp_path: Path, form: str) -> None:
    absent = {"SOPClassUID": None, "Modality": None} if form == "challenge" else {}
    write_clinical_slice(tmp_path / "a", PIXELS, **absent)
    content = (tmp_path / "a").read_bytes()
    pixels = content.rindex(b"\xe0\x7f\x10\x00")
    first = {"no preamble": PREAMBLE, "no meta": end_of_meta(content)}.get(form, 0)
    # Of less nothing can be known: the preamble, or two elements of a data set.
    least = {"no preamble": 60, "no meta": 80}.get(form, PREAMBLE)
    for length in range(least, pixels - first):
        path = written(tmp_path / "b", content[first : first + length])
        for tags in MODES:
            try:
                with open_dicom(path, tags=tags) as dataset:
                    assert tags is None  # its pixels are missed by whoever decodes them
                    assert "MR" in (dataset.get("Modality"), UID(dataset.SOPClassUID).name[:2])
            except SkipFile as skip:
                assert skip.reason not in HARMLESS, (length, skip)


@pytest.mark.parametrize("name", OTHER_CLASSES)
@pytest.mark.parametrize("length", [None, 420, 460])
def test_another_class_without_what_is_asked_for_is_harmless(
    tmp_path: Path, name: str, length: int | None
) -> None:
    """Even if it is damaged: no slice is lost."""
    dataset = write_clinical_slice(tmp_path / "a", PIXELS)
    for keyword in HEADER_TAGS:
        dataset.pop(keyword, None)
    del dataset.PixelData
    dataset.file_meta.MediaStorageSOPClassUID = OTHER_CLASSES[name]
    dataset.save_as(tmp_path / "a", enforce_file_format=False)
    path = written(tmp_path / "b", (tmp_path / "a").read_bytes()[:length])
    assert [reason(path, tags) for tags in MODES] == [Reason.NOT_MR_IMAGE] * 2


@pytest.mark.parametrize(
    ("uid", "expected"), [("4", Reason.UNREADABLE), ("88.11", Reason.NOT_MR_IMAGE)]
)
def test_damage_matters_to_mr_files_alone(tmp_path: Path, uid: str, expected: Reason) -> None:
    """An element that ends within its length."""
    dataset = write_clinical_slice(tmp_path / "a", PIXELS)
    del dataset.PixelData
    dataset.file_meta.MediaStorageSOPClassUID = f"1.2.840.10008.5.1.4.1.1.{uid}"
    dataset.save_as(tmp_path / "a", enforce_file_format=False)
    path = written(tmp_path / "b", (tmp_path / "a").read_bytes() + b"\x41\0\x10\0OB\0\0\1")
    assert [reason(path, tags) for tags in MODES] == [expected] * 2


def test_an_mr_file_without_what_is_asked_for_is_there(tmp_path: Path) -> None:
    """It has pixels and its class, if only in the meta information."""
    dataset = write_clinical_slice(tmp_path / "a", PIXELS)
    for keyword in HEADER_TAGS:
        dataset.pop(keyword, None)
    dataset.save_as(tmp_path / "a")
    with open_dicom(tmp_path / "a", tags=HEADER_TAGS) as opened:
        assert len(opened) == 0


def test_the_directory_of_a_disc_is_harmless(
    tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = directory_of(good)
    for start in (0, PREAMBLE, end_of_meta(content)):
        path = written(tmp_path / "DICOMDIR", content[start:])
        assert [reason(path, tags) for tags in MODES] == [Reason.NOT_MR_IMAGE] * 2


def test_size_matters_to_mr_files_alone(
    tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "MOST_FILE_BYTES", 700)
    assert len(good) > 700
    other = good.replace(b"1.2.840.10008.5.1.4.1.1.4\0", b"1.2.840.10008.5.1.4.1.1.7\0")
    for content, expected in {
        good: Reason.TOO_LARGE,
        good[PREAMBLE:]: Reason.TOO_LARGE,
        other: Reason.NOT_MR_IMAGE,
        b"text" * 500: Reason.NOT_DICOM,
        tarred([("a", good)]): Reason.ARCHIVE_NOT_READ,
    }.items():
        assert reason(written(tmp_path / "a", content)) is expected


def test_a_long_header_matters_to_mr_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "MOST_HEADER_BYTES", 700)
    for uid, expected in (("4", Reason.TOO_LARGE), ("7", Reason.NOT_MR_IMAGE)):
        with odd_values():
            dataset = write_clinical_slice(tmp_path / "a", PIXELS, SeriesDescription="x" * 900)
            dataset.file_meta.MediaStorageSOPClassUID = f"1.2.840.10008.5.1.4.1.1.{uid}"
            dataset.save_as(tmp_path / "a")
        assert reason(tmp_path / "a", HEADER_TAGS) is expected


# gzip


def test_gzip_whatever_its_name(tmp_path: Path, good: bytes) -> None:
    for content in (
        gzip.compress(good),
        gzip.compress(good[PREAMBLE:]),
        gzip.compress(good[:300]) + gzip.compress(good[300:]),
        gzip.compress(good) + bytes(1000),
    ):
        require_slice(written(tmp_path / "a", content))


def test_gzip_of_a_deflated_file(tmp_path: Path) -> None:
    write_as(tmp_path / "a", PIXELS, SYNTAXES[3])
    require_slice(written(tmp_path / "b", gzip.compress((tmp_path / "a").read_bytes())))


class Dribble(io.BytesIO):
    """A file that gives a few bytes at a time."""

    def __init__(self, content: bytes, most: int) -> None:
        super().__init__(content)
        self.most = most

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self.most)


@pytest.mark.parametrize("most", range(1, 40))
def test_gzip_parts_begin_anywhere(most: int) -> None:
    """Also where the first bytes of one are the last of a block that is read."""
    content = b"".join(map(gzip.compress, (b"first", b"second", b"")))
    assert b"".join(archives.gunzip(Dribble(content, most))) == b"firstsecond"


def test_gzip_that_is_damaged(tmp_path: Path, good: bytes) -> None:
    packed = gzip.compress(good)
    for content in (
        packed[:2] + b"\x08",
        packed[:100],
        packed[:-1],
        packed[:-8] + bytes(8),
        packed[:200] + b"\xff" * 50 + packed[250:],
        gzip.compress(b"") * (archives.MOST_GZIP_PARTS + 1),
    ):
        assert reason(written(tmp_path / "a", content)) is Reason.UNREADABLE


@pytest.mark.parametrize("packing", ["gzip", "zip"])
def test_what_inflates_to_too_much(
    tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch, packing: str
) -> None:
    """The header is read without the rest, and the rest up to a limit."""
    monkeypatch.setattr(dataset_module, "MOST_HEADER_BYTES", 2**17)
    monkeypatch.setattr(dataset_module, "MOST_INFLATED_BYTES", 2**23)
    dataset = pydicom.dcmread(io.BytesIO(good))
    dataset.private_block(0x0009, "large", create=True).add_new(1, "OB", bytes(2**18))
    stream = io.BytesIO()
    dataset.save_as(stream)
    for content, of_header in ((good + bytes(2**24), None), (stream.getvalue(), Reason.TOO_LARGE)):
        if packing == "gzip":
            path = written(tmp_path / f"{len(content)}", gzip.compress(content))
        else:
            path = written(tmp_path / f"{len(content)}", zipped([("b", content)])) / "b"
        if of_header is None:
            assert read_header(path).study_uid == "1.2.3"
            assert reason(path) is Reason.TOO_LARGE
        else:
            assert reason(path, HEADER_TAGS) is of_header
            (frame,) = read_frames(path)
            np.testing.assert_array_equal(frame.pixels, PIXELS)


@pytest.mark.parametrize(
    "inside",
    [b"PK\x03\x04" + bytes(50), gzip.compress(b"a"), tarred([("a", b"a")])],
    ids=["zip", "gzip", "tar"],
)
def test_an_archive_in_gzip_is_named(tmp_path: Path, inside: bytes) -> None:
    assert reason(written(tmp_path / "a", gzip.compress(inside))) is Reason.ARCHIVE_NOT_READ


# zip


def test_members_of_a_zip_archive(tmp_path: Path, good: bytes) -> None:
    content = zipped(
        [
            ("SE1/", b""),
            ("SE1/IM1", good),
            ("SE1/IM2.gz", gzip.compress(good)),
            ("SE1/IM3", good[PREAMBLE:]),
            ("readme.txt", b"text"),
            ("__MACOSX/._IM1", b"\0\5\x16\7" + bytes(100)),
        ]
    )
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        folder = tmp_path / str(method)
        folder.mkdir()
        written(folder / "disc", content)
        members = ["SE1/IM1", "SE1/IM2.gz", "SE1/IM3", "__MACOSX/._IM1", "readme.txt"]
        assert below(folder) == [f"disc/{name}" for name in members]
        assert below(folder / "disc") == members
        for name in members[:3]:
            require_slice(folder / "disc" / name)
        for name in members[3:]:
            assert reason(folder / "disc" / name) is Reason.NOT_DICOM
        assert reason(folder / "disc") is Reason.ARCHIVE_NOT_READ  # where none is looked for
        for name in ("absent", "SE1", "SE1/IM1/deeper"):
            assert reason(folder / "disc" / name) is Reason.UNREADABLE


def test_nothing_is_written(tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "a", gzip.compress(good))
    written(tmp_path / "b", zipped([("IM1", good), ("IM2", gzip.compress(good))]))
    before = sorted(tmp_path.iterdir())
    real = os.open

    def only_reading(path: Path, flags: int, *rest: int, **also: int) -> int:
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return real(path, flags, *rest, **also)

    monkeypatch.setattr(os, "open", only_reading)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    for path in Walk(tmp_path).below(tmp_path, []):
        require_slice(path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_walk_below_a_file(tmp_path: Path, good: bytes) -> None:
    path = written(tmp_path / "a", good)
    assert list(Walk(path).below(path, [])) == [path]
    (tmp_path / "link").symlink_to(path)
    assert list(Walk(tmp_path / "link").below(tmp_path / "link", [])) == [tmp_path / "link"]


@pytest.mark.parametrize(
    ("names", "safe"),
    [
        (["../../a", "..", "/b", "./c//d"], ["a", "unnamed", "b", "c/d"]),
        (["a\\b", "C:\\c", "c:d"], ["a/b", "c", "d"]),
        (["a", "a", "a~2", "./a"], ["a", "a~2", "a~2~2", "a~3"]),
        (["a\nb\x1b[31m", "\u202ea"], ["a_b_[31m", "_a"]),
        (["a/b", "a"], ["a/b", "a"]),
        (["..", ".."], ["unnamed", "unnamed~2"]),
    ],
)
def test_no_name_of_a_member_leads_out(
    tmp_path: Path, good: bytes, names: list[str], safe: list[str]
) -> None:
    members = [(name, good[:-1] + bytes([number])) for number, name in enumerate(names)]
    written(tmp_path / "z.zip", zipped(members))
    skips: list[Skip] = []
    found = list(Walk(tmp_path).below(tmp_path, skips))
    assert [path.relative_to(tmp_path / "z.zip").as_posix() for path in found] == safe
    last = [read_frames(path)[0].pixels[-1, -1] >> 8 for path in found]
    assert last == list(range(len(names)))  # each is the one that has the name


def test_a_member_without_a_name(tmp_path: Path, good: bytes) -> None:
    content = bytearray(zipped([("a", good)]))
    central = content.index(b"PK\1\2")
    struct.pack_into("<3H", content, central + 28, 0, 0, 1)  # its name is a comment now
    path = written(tmp_path / "z.zip", bytes(content))
    assert below(tmp_path) == ["z.zip/unnamed"]
    require_slice(path / "unnamed")


@given(st.lists(st.text(st.sampled_from("ab./\\:~2"), min_size=1, max_size=6), max_size=12))
def test_safe_names_differ(names: list[str]) -> None:
    """A name that ends with a slash is a folder's."""
    with tempfile.TemporaryDirectory() as folder:
        archive = written(Path(folder) / "z.zip", zipped([(name, DICM) for name in names]))
        safe = [str(path)[len(str(archive)) + 1 :] for path in archives.dicom_members(archive)]
    assert len(set(safe)) == sum(not name.endswith("/") for name in names)
    for name in safe:
        assert name and not set(name.split("/")) & {"", ".", ".."} and "\\" not in name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (encrypted, Reason.UNREADABLE),
        (lambda archive: of_method(archive, 9), Reason.ARCHIVE_NOT_READ),
        (lambda archive: of_method(archive, 12), Reason.ARCHIVE_NOT_READ),
        (lambda archive: archive[:-1], Reason.UNREADABLE),
        (lambda archive: archive[:40], Reason.UNREADABLE),
        (lambda archive: archive[: archive.index(b"PK\1\2") + 3], Reason.UNREADABLE),
        (lambda archive: archive.replace(b"PK\1\2", b"PK\1\3"), Reason.UNREADABLE),
        (lambda archive: b"PK\x07\x08" + archive, Reason.ARCHIVE_NOT_READ),
    ],
)
def test_an_archive_that_cannot_be_read_is_one_fault(
    tmp_path: Path, good: bytes, change: object, expected: Reason
) -> None:
    assert callable(change)
    path = written(tmp_path / "z.zip", change(zipped([("a", good), ("b", good)])))
    assert below(tmp_path) == ["z.zip"]
    assert [reason(path, tags) for tags in MODES] == [expected] * 2


def test_members_that_are_the_same_bytes(tmp_path: Path, good: bytes) -> None:
    path = written(tmp_path / "z.zip", overlapping(good, 3))
    assert below(tmp_path) == ["z.zip"]
    assert reason(path) is Reason.UNREADABLE


def test_a_damaged_member_costs_itself(tmp_path: Path, good: bytes) -> None:
    content = bytearray(zipped([("a", good), ("b", good)], method=zipfile.ZIP_STORED))
    at = content.index(good) + len(good) - 5
    content[at] ^= 255
    path = written(tmp_path / "z.zip", bytes(content))
    assert below(tmp_path) == ["z.zip/a", "z.zip/b"]
    assert reason(path / "a") is Reason.UNREADABLE
    require_slice(path / "b")
    second = content.rindex(b"PK\x03\x04")
    content[second : second + 4] = b"none"
    other = written(tmp_path / "y.zip", bytes(content))
    assert reason(other / "b") is Reason.UNREADABLE


def test_a_member_that_lies_about_its_size(tmp_path: Path, good: bytes) -> None:
    content = bytearray(zipped([("a", good + bytes(2**18))]))
    central = content.index(b"PK\1\2")
    struct.pack_into("<L", content, central + 24, 500)
    path = written(tmp_path / "z.zip", bytes(content))
    assert reason(path / "a") is Reason.UNREADABLE
    struct.pack_into("<L", content, central + 24, 2**31)
    other = written(tmp_path / "y.zip", bytes(content))
    assert reason(other / "a") is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "members",
    [
        [],
        [("a.txt", b"text")],
        [("[Content_Types].xml", b"<xml/>"), ("word/document.xml", b"<xml/>")],
        [("META-INF/MANIFEST.MF", b"a"), ("a.class", b"\xca\xfe\xba\xbe" + bytes(50))],
        [("a.docx", zipped([("[Content_Types].xml", b"<xml/>")]))],
        [("a.txt.gz", gzip.compress(b"text"))],
    ],
)
def test_an_archive_without_dicom_is_one_harmless_file(
    tmp_path: Path, members: list[tuple[str, bytes]]
) -> None:
    path = written(tmp_path / "z.zip", zipped(members))
    assert below(tmp_path) == ["z.zip"]
    assert [reason(path, tags) for tags in MODES] == [Reason.NOT_DICOM] * 2


def test_half_a_document_is_harmless(tmp_path: Path) -> None:
    document = zipped([("[Content_Types].xml", random.Random(0).randbytes(500))])
    assert reason(written(tmp_path / "a.docx", document[:300])) is Reason.NOT_DICOM


def test_archives_in_an_archive(tmp_path: Path, good: bytes) -> None:
    inner = zipped([("a", good)])
    path = written(tmp_path / "z.zip", zipped([("inner.zip", inner)]))
    assert below(tmp_path) == ["z.zip"]
    assert reason(path) is Reason.ARCHIVE_NOT_READ
    written(path, zipped([("inner.zip", inner), ("b.tar", tarred([("a", good)])), ("a", good)]))
    assert below(tmp_path) == ["z.zip/a", "z.zip/b.tar", "z.zip/inner.zip"]
    require_slice(path / "a")
    for name in ("b.tar", "inner.zip"):
        assert reason(path / name) is Reason.ARCHIVE_NOT_READ


def test_a_zip_archive_of_64_bits(tmp_path: Path, good: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        with archive.open("a", "w", force_zip64=True) as member:
            member.write(good)
        archive.writestr("b", good)
    assert below(tmp_path) == ["z.zip/a", "z.zip/b"]
    require_slice(tmp_path / "z.zip" / "a")


def test_a_directory_of_too_many_members(
    tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "z.zip", zipped([(str(number), good) for number in range(30)]))
    monkeypatch.setattr(archives, "MOST_DIRECTORY_BYTES", 1400)
    assert below(tmp_path) == ["z.zip"]
    assert reason(path) is Reason.TOO_LARGE


def test_directories_are_kept_up_to_a_limit(
    tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four archives of two members, two: the others are read anew."""
    monkeypatch.setattr(archives, "MOST_MEMBERS_HELD", 5)
    content = zipped([("a", good), ("b", good)])
    files = [written(tmp_path / f"{number}.zip", content) for number in range(4)]
    read: list[Path] = []
    open_archive = zipfile.ZipFile

    def note(stream: io.BufferedReader) -> zipfile.ZipFile:
        read.append(Path(stream.name))
        return open_archive(stream)

    monkeypatch.setattr(zipfile, "ZipFile", note)
    for file in files:
        for path in archives.dicom_members(file):
            require_slice(path)
    assert read == files
    for path in (files[3], files[2], files[1]):
        require_slice(path / "a")
    assert read == [*files, files[1]]


def test_an_archive_that_changes_is_read_anew(tmp_path: Path, good: bytes) -> None:
    path = written(tmp_path / "z.zip", zipped([("a", b"text"), ("b", good)]))
    assert reason(path / "a") is Reason.NOT_DICOM
    written(path, zipped([("a", good)]))
    require_slice(path / "a")
    path.unlink()
    assert reason(path / "a") is Reason.UNREADABLE
    path.mkdir()
    written(path / "a", good)
    require_slice(path / "a")


def test_a_change_of_an_archive_is_noticed_by_a_resumed_run(tmp_path: Path, good: bytes) -> None:
    path = written(tmp_path / "z.zip", zipped([("a", good)]))
    study = Study("1", (Series("1", "2", None, "header", (path / "a",)),), listed=False)
    before = stamp(study, tmp_path)
    assert stamp(study, tmp_path) == before
    written(path, zipped([("a", good), ("b", b"")]))
    assert stamp(study, tmp_path) != before


# Archives that are not read


@pytest.mark.parametrize("tags", MODES)
def test_other_archives_are_named(
    tmp_path: Path, good: bytes, tags: tuple[str, ...] | None
) -> None:
    members = [("a", good)]
    old_tar = bytearray(tarred(members))
    old_tar[257:265] = bytes(8)
    old_tar[148:156] = b" " * 8
    old_tar[148:155] = b"%06o\0" % sum(old_tar[:512])
    for content in (
        tarred(members),
        bytes(old_tar),
        tarred(members, mode="w:gz"),
        tarred(members, mode="w:bz2"),
        tarred(members, mode="w:xz"),
        bytes(0x8001) + b"CD001" + bytes(3000),
        gzip.compress(bytes(0x8001) + b"CD001" + bytes(3000)),
        b"7z\xbc\xaf\x27\x1c" + bytes(30),
        b"\x28\xb5\x2f\xfd" + bytes(30),
    ):
        assert reason(written(tmp_path / "a", content), tags) is Reason.ARCHIVE_NOT_READ


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.7z", Reason.ARCHIVE_NOT_READ),
        ("a.ZIP", Reason.ARCHIVE_NOT_READ),
        ("a.7z.002", Reason.ARCHIVE_NOT_READ),
        ("a.r00", Reason.ARCHIVE_NOT_READ),
        ("a.z01", Reason.ARCHIVE_NOT_READ),
        ("a.tar.gz", Reason.ARCHIVE_NOT_READ),
        ("a.001", Reason.NOT_DICOM),
        ("azip", Reason.NOT_DICOM),
        ("a.zip.txt", Reason.NOT_DICOM),
    ],
)
def test_archives_by_their_names(tmp_path: Path, name: str, expected: Reason) -> None:
    """As the second part of one, or encrypted as a whole."""
    path = written(tmp_path / name, random.Random(1).randbytes(500))
    assert reason(path) is expected
    assert reason(written(path, b"")) is Reason.NOT_DICOM
