"""Files in other wrappings: bare data sets, and archives as they really are."""

from __future__ import annotations

import io
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

PREAMBLE = 132  # bytes up to the end of "DICM"
ZEROS = bytes(2**20)
Members = Iterable[tuple[str, bytes]]


def end_of_meta(content: bytes) -> int:
    """Where the data set of a file begins; its meta information may not say how long it is."""
    at = PREAMBLE
    while content.startswith(b"\x02\x00", at):
        long = content[at + 4 : at + 6] == b"OB"
        (length,) = struct.unpack_from("<L" if long else "<H", content, at + (8 if long else 6))
        at += (12 if long else 8) + length
    return at


def bare(content: bytes, *, implicit: bool = False, little: bool = True) -> bytes:
    """The data set alone, written anew; pixels are taken as they are."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    stream = io.BytesIO()
    pydicom.dcmwrite(
        stream,
        Dataset({element.tag: element for element in dataset}),
        implicit_vr=implicit,
        little_endian=little,
        enforce_file_format=False,
    )
    return stream.getvalue()


def zipped(members: Members, *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive; names may be anything and come twice."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")  # that a name comes twice
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def encrypted(archive: bytes) -> bytes:
    """The same archive, saying that its members are encrypted (APPNOTE 4.4.4)."""
    return _with_field(archive, local_at=6, central_at=8, value=1)


def of_method(archive: bytes, method: int) -> bytes:
    """The same archive, saying that its members are packed in some way (APPNOTE 4.4.5)."""
    return _with_field(archive, local_at=8, central_at=10, value=method)


def _with_field(archive: bytes, *, local_at: int, central_at: int, value: int) -> bytes:
    changed = bytearray(archive)
    for signature, field_at in ((b"PK\x03\x04", local_at), (b"PK\x01\x02", central_at)):
        at = archive.find(signature)
        while at >= 0:
            struct.pack_into("<H", changed, at + field_at, value)
            at = archive.find(signature, at + 4)
    return bytes(changed)


def overlapping(content: bytes, count: int) -> bytes:
    """An archive of many members that are all the same bytes of it."""
    archive = zipped([("a", content)])
    start = archive.index(b"PK\x01\x02")
    end = archive.index(b"PK\x05\x06")
    entry = archive[start:end]
    told = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, start, 0)
    return archive[:start] + entry * count + told


def deflated_bomb(start: bytes, mebibytes: int) -> bytes:
    """Raw deflate of some bytes and so many MiB of zeros behind them.

    After a full flush nothing refers to what came before, so the zeros are packed once. One of
    nothing would begin with the bytes 0, 0, which pydicom takes for an element of group 0000.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH) if start else b""
    zeros = packer.compress(ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + zeros * mebibytes + packer.flush()


def gzip_and_zip_bombs(start: bytes, mebibytes: int) -> tuple[bytes, bytes]:
    """The same packed as gzip (RFC 1952) and as the only member of a zip archive (APPNOTE 4.3)."""
    packed, crc, size = deflated_bomb(start, mebibytes), zlib.crc32(start), len(start)
    for _ in range(mebibytes):
        crc = zlib.crc32(ZEROS, crc)
    size += mebibytes * len(ZEROS)
    gzip = b"\x1f\x8b\x08" + bytes(6) + b"\xff" + packed + struct.pack("<2L", crc, size)
    version, deflate, date, name = 20, 8, 0x21, b"IM1"
    told = struct.pack(
        "<4H3L2H", 0, deflate, 0, date, crc, len(packed), size, len(name), 0
    )  # flags to extra field, as in both headers
    local = struct.pack("<4sH", b"PK\x03\x04", version) + told + name
    central = struct.pack("<4s2H", b"PK\x01\x02", version, version) + told + bytes(14) + name
    end = (b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    return gzip, local + packed + central + struct.pack("<4s4H2LH", *end)


def tarred(members: Members, *, mode: str = "w") -> bytes:
    """A tar archive; ``mode`` packs it, such as ``w:xz``."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def directory_of(content: bytes) -> bytes:
    """The DICOMDIR of a disc that holds a slice, as pydicom writes it."""
    dataset = pydicom.dcmread(io.BytesIO(content))
    for keyword, value in {
        "PatientName": "x",
        "PatientID": "1",
        "StudyDate": "20200101",
        "StudyTime": "000000",
        "StudyID": "1",
        "SeriesNumber": 1,
    }.items():
        setattr(dataset, keyword, value)
    disc = FileSet()
    disc.add(dataset)
    stages = [disc._stage["t"]]  # temporary folders, which it leaves to whoever finds them
    with tempfile.TemporaryDirectory() as folder:
        disc.write(folder)
        stages.append(disc._stage["t"])
        content = (Path(folder) / "DICOMDIR").read_bytes()
    for stage in stages:
        stage.cleanup()
    return content
