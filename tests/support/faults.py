"""Faulty files, from good slices: what an archive holds besides, each with what may be said of it.

``faults`` yields hundreds of kinds by hand and as many mutants as are asked for, always the same
ones. A fault's ``fits`` holds the reason codes that tell it rightly; ``SCORED`` among them where
the slice can still be used.
"""

from __future__ import annotations

import gzip
import io
import logging
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from packing import (
    PREAMBLE,
    bare,
    deflated_bomb,
    directory_of,
    encrypted,
    end_of_meta,
    gzip_and_zip_bombs,
    of_method,
    overlapping,
    tarred,
    zipped,
)
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MediaStorageDirectoryStorage,
    MRSpectroscopyStorage,
    RawDataStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

SCORED = "scored"
NOT_DICOM = frozenset({"not_dicom"})
NOT_MR = frozenset({"not_mr_image"})
PIXELS = frozenset({"bad_pixels", "too_large", "decoder_failed"})
# Of a file that was cut or changed anywhere.
ANYTHING = frozenset(
    {
        SCORED,
        "not_dicom",
        "not_mr_image",
        "unreadable",
        "no_pixels",
        "not_grey",
        "unknown_transfer_syntax",
        "other_plane",
        *PIXELS,
    }
)
CORONAL = [1, 0, 0, 0, 0, -1]
OTHER_CLASSES = {
    "SR": BasicTextSRStorage,
    "presentation state": GrayscaleSoftcopyPresentationStateStorage,
    "key objects": KeyObjectSelectionDocumentStorage,
    "DICOMDIR": MediaStorageDirectoryStorage,
    "spectroscopy": MRSpectroscopyStorage,
    "raw data": RawDataStorage,
    "secondary capture": SecondaryCaptureImageStorage,
    "CT": CTImageStorage,
    "PDF": EncapsulatedPDFStorage,
    "RT structures": RTStructureSetStorage,
    "segmentation": SegmentationStorage,
}
Change = Callable[[FileDataset], object]


@dataclass(frozen=True, slots=True)
class Fault:
    """A faulty file."""

    name: str
    content: bytes
    fits: frozenset[str]


def faults(slices: Sequence[Path], *, mutants: int = 0) -> Iterator[Fault]:
    """Every kind, then mutants of the slices in turn, each an instance of its own.

    Args:
        slices: good single-frame MR slices, best one for each transfer syntax; the first
            uncompressed, explicit little endian.
        mutants: so many files with bytes changed at random.
    """
    uids = {bytes(pydicom.dcmread(path).SOPInstanceUID, "ascii") for path in slices}
    for number, fault in enumerate(_all_faults(slices, mutants)):
        content = fault.content
        for uid in uids:
            content = content.replace(uid, uid[:-5] + b"%05d" % number)
        # In a deflated file the UID is only seen in the meta information.
        hidden = sum(map(fault.content.count, uids)) < 2
        also = {"duplicate"} if hidden and SCORED in fault.fits else set()
        yield Fault(fault.name, content, fault.fits | also)


def _all_faults(slices: Sequence[Path], mutants: int) -> Iterator[Fault]:
    plain = slices[0]
    yield from _no_dicom(plain.read_bytes())
    yield from _packed(plain.read_bytes())
    yield from _unmarked(plain.read_bytes())
    for number, path in enumerate(slices):
        yield from _cut(f"syntax {number}", path.read_bytes())
    for name, fits, change in (*_headers(), *_usable()):
        yield Fault(name, _changed(plain, change), fits)
    yield from _bombs(plain)
    dice = random.Random(0)
    for number in range(mutants):
        path = slices[number % len(slices)]
        yield Fault(f"mutant {number}", _mutant(path.read_bytes(), dice), ANYTHING)


def _no_dicom(good: bytes) -> Iterator[Fault]:
    """Files of other kinds; some only look like DICOM."""
    contents = {
        "empty": b"",
        "one byte": b"\0",
        "zeros": bytes(5000),
        "text": b"this is no DICOM file\n" * 50,
        "CSV": b"study_id,level\n1,l1_l2\n" * 20,
        "PNG": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
        "JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 8,
        "empty zip": zipped([]),
        "zip of a text": zipped([("a.txt", b"text\n" * 100)]),
        "document": zipped([("[Content_Types].xml", b"<xml/>"), ("word/a.xml", b"<xml/>")]),
        "half a document": zipped([("[Content_Types].xml", b"<xml/>" * 50)])[:60],
        "gzip of a text": gzip.compress(b"text\n" * 100, mtime=0),
        "AppleDouble": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4000),
        "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5000),
        "program": b"MZ" + bytes(9000),
        "NIfTI": struct.pack("<l", 348) + bytes(344) + b"n+1\0" + bytes(2000),
        "pickle": b"\x80\x04\x95" + bytes(range(256)),
        "prefix in the wrong place": b"DICM" + bytes(128) + good[PREAMBLE:],
        "prefix in lower case": bytes(128) + b"dicm" + good[PREAMBLE:],
    }
    for name, content in contents.items():
        yield Fault(name, content, NOT_DICOM)
    yield Fault("nothing but a preamble", good[:PREAMBLE], frozenset({"not_dicom", "unreadable"}))
    dice = random.Random(1)
    for length in (10, 127, 128, 200, 5000):
        yield Fault(f"{length} bytes of noise", dice.randbytes(length), NOT_DICOM)
        noise = bytes(128) + b"DICM" + dice.randbytes(length)
        yield Fault(f"{length} bytes of noise behind the prefix", noise, ANYTHING - {SCORED})


def _packed(good: bytes) -> Iterator[Fault]:
    """In other wrappings; a zip archive is read in a tree and named in a folder of slices."""
    packed, archive = gzip.compress(good, 1, mtime=0), zipped([("IM1", good), ("a.txt", b"a")])
    once = frozenset({SCORED})
    named = frozenset({"archive_not_read"})
    lost = frozenset({"unreadable"})
    for name, content, fits in (
        ("gzip", packed, once),
        ("gzip in parts", b"".join(map(_gzip, (good[:500], good[500:900], good[900:]))), once),
        ("gzip, padded", packed + bytes(512), once),
        ("gzip without preamble", _gzip(good[PREAMBLE:]), once),
        ("gzip cut", packed[: len(packed) // 2], lost),
        ("gzip cut at its beginning", packed[:20], lost),
        ("gzip, damaged", packed[:-8] + bytes(8), lost),
        ("gzip in gzip", _gzip(packed), named),
        ("zip in gzip", _gzip(archive), named),
        ("tar in gzip", _gzip(tarred([("IM1", good)])), named),
        ("zip", archive, once | named),
        ("zip, not packed", zipped([("IM1", good)], method=zipfile.ZIP_STORED), once | named),
        ("zip cut", archive[: len(archive) // 2], lost),
        ("zip magic alone", b"PK\x03\x04" + bytes(range(256)) * 8, lost),
        ("zip, encrypted", encrypted(archive), lost),
        ("zip by another method", of_method(archive, 9), named),
        ("zip of one", overlapping(good, 50), lost),
        ("zip in zip", zipped([("a.zip", archive)]), named),
        ("tar in zip", zipped([("a.tar", tarred([("IM1", good)]))]), named),
        ("tar", tarred([("IM1", good)]), named),
        ("tar.xz", tarred([("IM1", good)], mode="w:xz"), named),
        ("tar.bz2", tarred([("IM1", good)], mode="w:bz2"), named),
        ("7z", b"7z\xbc\xaf\x27\x1c" + bytes(500), named),
        ("rar", b"Rar!\x1a\x07\x01\x00" + bytes(500), named),
        ("zstd", b"\x28\xb5\x2f\xfd" + bytes(500), named),
        ("disc image", bytes(0x8001) + b"CD001" + bytes(5000), named),
    ):
        yield Fault(f"packed: {name}", content, fits)
    gzip_bomb, zip_bomb = gzip_and_zip_bombs(good, 512)
    yield Fault("packed: gzip bomb", gzip_bomb, frozenset({"too_large"}))
    yield Fault("packed: zip bomb", zip_bomb, frozenset({"too_large", "archive_not_read", SCORED}))


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def _unmarked(good: bytes) -> Iterator[Fault]:
    """Without preamble and prefix, and cut in the header."""
    once, lost = frozenset({SCORED}), frozenset({"unreadable", "no_pixels"})
    yield Fault("no preamble", good[PREAMBLE:], once)
    yield Fault("no meta information", good[end_of_meta(good) :], once)
    yield Fault("no meta information, implicit", bare(good, implicit=True), once)
    data_set = end_of_meta(good)
    for length in (data_set - 20, data_set, data_set + 30, 400, 500):
        yield Fault(f"cut in the header at {length}", good[:length], lost)
        yield Fault(f"no preamble, cut at {length}", good[PREAMBLE:length], lost)
    yield Fault("no meta information, cut", good[data_set : data_set + 150], lost)
    yield Fault("a disc's directory", directory_of(good), NOT_MR)
    yield Fault("a disc's directory without preamble", directory_of(good)[PREAMBLE:], NOT_MR)


def _cut(name: str, good: bytes) -> Iterator[Fault]:
    """Truncated, or with a tail of zeros, at twenty places."""
    for share in range(20):
        length = len(good) * share // 20
        lost = frozenset({"not_dicom"}) if length < PREAMBLE else ANYTHING - {SCORED}
        yield Fault(f"{name} cut at {share}/20", good[:length], lost)
        tail = good[:length] + bytes(len(good) - length)
        yield Fault(f"{name} zeros from {share}/20", tail, ANYTHING - {SCORED} | {"zero_tail"})
    yield Fault(f"{name} without its last byte", good[:-1], ANYTHING)


def _headers() -> Iterator[tuple[str, frozenset[str], Change]]:
    """What a header says of its pixels missing or contradictory, and files that are no images."""

    def without(keyword: str) -> Change:
        return lambda dataset: dataset.pop(keyword, None)

    def with_value(keyword: str, value: object) -> Change:
        return lambda dataset: setattr(dataset, keyword, value)

    told = PIXELS | {"unreadable", "not_grey"}
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        yield f"no {keyword}", told, without(keyword)
        yield f"{keyword} 0", told, with_value(keyword, 0)
        yield f"{keyword} empty", told, with_value(keyword, None)
    for keyword in ("BitsStored", "PixelRepresentation", "SamplesPerPixel"):
        yield f"no {keyword}", told | {SCORED}, without(keyword)
        yield f"{keyword} empty", told | {SCORED}, with_value(keyword, None)
    yield "no PhotometricInterpretation", told, without("PhotometricInterpretation")
    for keyword, values in {
        "Rows": (1, 383, 385, 65535),
        "Columns": (1, 383, 385, 65535),
        "BitsAllocated": (1, 7, 12, 24, 32, 64),
        "BitsStored": (0, 17, 255),
        "SamplesPerPixel": (0, 2, 3, 255),
        "NumberOfFrames": (0, -1, 2, 1000, 10**9),
        "PixelRepresentation": (2, 255),
    }.items():
        usable = set() if keyword in ("Rows", "Columns", "BitsAllocated") else {SCORED}
        for value in values:
            yield f"{keyword} {value}", told | usable, with_value(keyword, value)
    for value in ("RGB", "PALETTE COLOR", "YBR_FULL", "grey", ""):
        colour = with_value("PhotometricInterpretation", value)
        yield f"photometric {value!r}", frozenset({"not_grey", *PIXELS}), colour
    coronal = with_value("ImageOrientationPatient", CORONAL)
    yield "coronal", frozenset({"other_plane"}), coronal
    yield "no pixels", frozenset({"no_pixels"}), without("PixelData")
    yield "no pixels in it", PIXELS | {"no_pixels"}, with_value("PixelData", b"")
    yield "half of the pixels", PIXELS, _halve
    for name, uid in OTHER_CLASSES.items():

        def other(dataset: FileDataset, uid: str = uid) -> None:
            dataset.SOPClassUID = uid

        def bare(dataset: FileDataset, uid: str = uid) -> None:
            dataset.SOPClassUID = uid
            del dataset.PixelData

        yield name, NOT_MR, other
        yield f"{name} without pixels", NOT_MR, bare
    yield "class of an anonymiser", {SCORED}, with_value("SOPClassUID", "1.2.3.4")
    for uid in (b"1.2.840.10008.1.9.9", b"1.2.840.10008.1.2.9", b"1.2.3", b"none"):

        def syntax(dataset: FileDataset, uid: bytes = uid) -> bytes:
            return with_syntax(_saved(dataset), uid)

        told = PIXELS | {"unknown_transfer_syntax", "unreadable"}
        yield f"transfer syntax {uid.decode()}", told, syntax


def _halve(dataset: FileDataset) -> None:
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 4 * 2]


def with_syntax(explicit: bytes, uid: bytes) -> bytes:
    """A file in explicit little endian that says it were in another transfer syntax."""
    plain = b"1.2.840.10008.1.2.1\0"
    assert explicit.count(plain) == 1 and len(uid) <= len(plain)
    return explicit.replace(plain, uid.ljust(len(plain), b"\0"))


def _usable() -> Iterator[tuple[str, frozenset[str], Change]]:
    """Odd, and good enough to be scored."""
    for keyword in (
        "InstanceNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        "Modality",
        "SliceThickness",
    ):

        def missing(dataset: FileDataset, keyword: str = keyword) -> None:
            dataset.pop(keyword, None)

        yield f"usable: no {keyword}", frozenset({SCORED}), missing
    for value in ("NaN", "inf", "-inf", "1e999", "0", "text", "", "-1", "1e-300"):

        def slope(dataset: FileDataset, value: str = value) -> None:
            for keyword in ("RescaleSlope", "RescaleIntercept"):
                setattr(dataset, keyword, 1)
                dataset[keyword]._value = value

        yield f"usable: rescale {value!r}", frozenset({SCORED}), slope
    for value in (0, 1, 4095):

        def constant(dataset: FileDataset, value: int = value) -> None:
            count = dataset.Rows * dataset.Columns
            dataset.PixelData = struct.pack("<H", value) * count

        yield f"usable: constant {value}", frozenset({SCORED}), constant
    for keyword, text in {
        "ImagePositionPatient": "a\\b\\c",
        "ImageOrientationPatient": "1\\0",
        "PixelSpacing": "0\\0",
        "InstanceNumber": "first",
    }.items():

        def odd(dataset: FileDataset, keyword: str = keyword, text: str = text) -> None:
            dataset.add_new(keyword, "LO", text)

        yield f"usable: {keyword} {text}", frozenset({SCORED}), odd
    yield (
        "usable: MONOCHROME1",
        frozenset({SCORED}),
        lambda one: setattr(one, "PhotometricInterpretation", "MONOCHROME1"),
    )
    for depth in (3, 30):
        yield f"usable: sequences {depth} deep", frozenset({SCORED}), _nesting(depth)
    yield "sequences 3000 deep", frozenset({SCORED, "unreadable"}), _nesting_raw(3000)


def _nesting(depth: int) -> Change:
    def change(dataset: FileDataset) -> None:
        item = Dataset()
        item.PatientComments = "deepest"
        for _ in range(depth):
            outer = Dataset()
            outer.ReferencedImageSequence = DicomSequence([item])
            item = outer
        dataset.ReferencedImageSequence = DicomSequence([item])

    return change


def _nesting_raw(depth: int) -> Change:
    """Written by hand, since pydicom's writer does not go so deep."""

    def change(dataset: FileDataset) -> bytes:
        dataset.pop("ReferencedImageSequence", None)
        content = _saved(dataset)
        head, tag = content[:PREAMBLE], struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
        item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        data_set = end_of_meta(content)
        meta = content[PREAMBLE:data_set]
        return head + meta + (tag + item) * depth + content[data_set:]

    return change


def _bombs(path: Path) -> Iterator[Fault]:
    """Small files that ask for a lot."""
    bits = (("Rows", 65535), ("Columns", 65535))

    def huge(dataset: FileDataset) -> None:
        for keyword, value in bits:
            setattr(dataset, keyword, value)

    def frames(dataset: FileDataset) -> None:
        huge(dataset)
        dataset.NumberOfFrames = 2**31 - 1

    told = frozenset({"too_large", "bad_pixels"})
    yield Fault("huge matrix", _changed(path, huge), told)
    yield Fault("huge matrix and many frames", _changed(path, frames), told)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = _saved(dataset)
    meta = content[: end_of_meta(content)]
    zeros = deflated_bomb(b"", 1500)
    yield Fault("deflated bomb of 1.5 GB", meta + zeros, PIXELS | {"unreadable", "not_mr_image"})
    good = path.read_bytes()
    start = good.rindex(b"\xe0\x7f\x10\x00OW")
    for length in (0, 2, 0x7FFFFFFE, 0xFFFFFFFE, 0xFFFFFFFF):
        declared = good[: start + 8] + struct.pack("<L", length) + good[start + 12 :]
        lost = {SCORED} if length < 0x7FFFFFFE else set()  # more than there is: all is there
        yield Fault(f"pixel length {length:#x}", declared, ANYTHING - lost)


def _mutant(good: bytes, dice: random.Random) -> bytes:
    """Some bytes changed, mostly near the beginning, where the header is."""
    content = bytearray(good)
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        reach = len(content) if dice.random() < 0.3 else min(len(content), 3000)
        content[dice.randrange(PREAMBLE, reach)] = dice.randrange(256)
    return bytes(content)


def _changed(path: Path, change: Change) -> bytes:
    dataset = pydicom.dcmread(path)
    with odd_values():
        made = change(dataset)
        return made if isinstance(made, bytes) else _saved(dataset)


def _saved(dataset: FileDataset) -> bytes:
    stream = io.BytesIO()
    with odd_values():
        dataset.save_as(stream, enforce_file_format=False)
    return stream.getvalue()


@contextmanager
def odd_values() -> Iterator[None]:
    """pydicom takes any value without a word."""
    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before
