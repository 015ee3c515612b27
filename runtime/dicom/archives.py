"""Packed files (gzip files and members of zip archives), inflated into memory, never to disk.

A member of a zip archive is named by a path below the archive's, such as ``disc.zip/SE01/IM0001``.
No such file exists: opening the path fails, and the caller then finds the archive here. Names are
made safe: no name leads out of the archive, and no two members have the same name.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom.file_kinds import (
    GZIP,
    HEAD_BYTES,
    ISO_AT,
    ISO_BYTES,
    ZIP,
    ZIPS,
    Kind,
    is_document,
    kind_of,
)

BLOCK_BYTES = 2**14
INFLATED_BLOCK_BYTES = 2**16
MOST_KIND_BYTES = ISO_AT + ISO_BYTES + INFLATED_BLOCK_BYTES  # bytes needed to tell a kind
MOST_GZIP_PARTS = 2**14  # per file; a block of bgzip holds 64 KiB
# Size of a zip archive's directory: names and offsets of its members, about 100 bytes each.
MOST_DIRECTORY_BYTES = 2**24
# Number of archives, and of their members, whose directories a process keeps.
MOST_HELD, MOST_MEMBERS_HELD = 64, 2**18
ENCRYPTED = 0x1
LOCAL_HEADER = struct.Struct("<26xHH")  # APPNOTE 4.3.7: signature, ..., lengths of name and extra
DAMAGED_ARCHIVE = "a damaged zip archive, or one cut short"
NESTED = "a {} archive inside another"
NOT_HERE = "a zip archive in place of a slice"
_DRIVE = re.compile(r"^[A-Za-z]:")
DAMAGE = (
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    UnicodeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class Readable(Protocol):
    """A file that is read sequentially from its beginning."""

    def read(self, size: int, /) -> bytes: ...


class Inflated:
    """A file that is inflated only as far as it is read, and kept in memory while it is open.

    Raises:
        SkipFile: it exceeds its size limit, which at first is the size needed to tell its kind.
        zlib.error: it is damaged or cut short.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._held = io.BytesIO()
        self._length = 0
        self._most_bytes, self._too_much = MOST_KIND_BYTES, ""

    def limit(self, most_bytes: int, too_much: str) -> None:
        """Set another size limit, and the message for a file that exceeds it."""
        self._most_bytes, self._too_much = most_bytes, too_much

    def read(self, size: int = -1) -> bytes:
        at = self._held.tell()
        self._inflate(at + size if size >= 0 else None)
        self._held.seek(at)
        return self._held.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._held.seek(offset, whence)  # never relative to the end, which is not known

    def tell(self) -> int:
        return self._held.tell()

    def whole(self) -> io.BytesIO:
        """The complete content; this object is not usable afterwards."""
        self._inflate(None)
        self._held.seek(0)
        return self._held

    def _inflate(self, end: int | None) -> None:
        """Inflate up to this offset, or everything."""
        if end is not None and end <= self._length:
            return
        self._held.seek(self._length)
        while end is None or self._length < end:
            block = next(self._blocks, None)
            if block is None:
                return
            self._length += len(block)
            if self._length > self._most_bytes:
                raise SkipFile(Reason.TOO_LARGE, self._too_much)
            self._held.write(block)


def gunzip(stream: Readable) -> Iterator[bytes]:
    """The content of a gzip file (RFC 1952), all of its parts one after the other.

    Raises:
        zlib.error: damaged or cut short.
    """
    blocks = iter(partial(stream.read, BLOCK_BYTES), b"")
    rest: list[bytes] = []
    for _ in range(MOST_GZIP_PARTS):
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        yield from _inflate(inflater, chain(rest, blocks))
        behind = inflater.unused_data
        while len(behind) < len(GZIP) and (block := next(blocks, b"")):
            behind += block
        if not behind.startswith(GZIP):  # padding, or nothing
            return
        rest = [behind]
    raise zlib.error("too many parts")


def _inflate(inflater: zlib._Decompress, blocks: Iterator[bytes]) -> Iterator[bytes]:
    while not inflater.eof:
        packed = inflater.unconsumed_tail or next(blocks, b"")
        block = inflater.decompress(packed, INFLATED_BLOCK_BYTES)
        if not packed and not block:
            # not EOFError: pydicom takes that for the end of a complete file
            raise zlib.error("cut short")
        yield block


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a zip archive."""

    offset: int
    packed_bytes: int
    size: int
    method: int
    encrypted: bool
    crc: int


class Directory:
    """The files of a zip archive, by names that are safe as paths."""

    def __init__(self, archive: Path, members: Mapping[str, Member]) -> None:
        self._archive = archive
        self.members = members

    @cached_property
    def verdict(self) -> SkipFile | None:
        """None if any member is a DICOM file; otherwise why the whole archive is not read."""
        verdict = SkipFile(Reason.NOT_DICOM)
        with self._archive.open("rb") as stream:
            for member in self.members.values():
                kind = _kind_of_member(stream, member)
                if kind is None:
                    return None
                if verdict.reason is Reason.NOT_DICOM:
                    verdict = kind
        return verdict


def is_zip(path: Path) -> bool:
    """Whether a file begins like a zip archive; False if it cannot be read."""
    try:
        descriptor = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except OSError:
        return False
    try:
        return os.read(descriptor, len(ZIP)) in ZIPS and stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def dicom_members(archive: Path) -> tuple[Path, ...]:
    """Paths of all files in a zip archive if any of them is a DICOM file, otherwise none."""
    try:
        directory = _directory(archive)
        if directory.verdict is not None:
            return ()
    except (OSError, SkipFile):
        return ()
    return tuple(archive / name for name in directory.members)


def why_not_read(archive: Path) -> SkipFile:
    """The report for a zip archive in a place where its members are not looked for."""
    try:
        return _directory(archive).verdict or SkipFile(Reason.ARCHIVE_NOT_READ, NOT_HERE)
    except SkipFile as skip:
        return skip


def archive_of(path: Path) -> Path | None:
    """The file that a path leads through as if it were a folder, or None."""
    for folder in path.parents:
        try:
            found = os.stat(folder)
        except OSError:
            continue
        return folder if stat.S_ISREG(found.st_mode) else None
    return None


@contextmanager
def open_member(archive: Path, path: Path) -> Iterator[tuple[Inflated, int]]:
    """Open a file in a zip archive by its path; also gives its size.

    Raises:
        SkipFile: the archive or this member cannot be read.
        FileNotFoundError: the archive has no such member.
    """
    member = _directory(archive).members.get(path.relative_to(archive).as_posix())
    if member is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    with archive.open("rb") as stream:
        yield _inflated(stream, member), member.size


def _kind_of_member(stream: BinaryIO, member: Member) -> SkipFile | None:
    """None for a DICOM file; otherwise why it is not read."""
    try:
        inflated = _inflated(stream, member)
        head = inflated.read(HEAD_BYTES)
        kind = kind_of(head, member.size)
        if kind.kind is Kind.GZIP:
            inflated.seek(0)
            head = Inflated(gunzip(inflated)).read(HEAD_BYTES)
            kind = kind_of(head)
    except SkipFile as skip:
        return skip
    except DAMAGE:
        return SkipFile(Reason.UNREADABLE, DAMAGED_ARCHIVE)
    if kind.kind in (Kind.DICOM, Kind.BARE):
        return None
    if kind.kind is Kind.OTHER or is_document(head):
        return SkipFile(Reason.NOT_DICOM)
    return SkipFile(Reason.ARCHIVE_NOT_READ, NESTED.format(kind.name))


def _inflated(stream: BinaryIO, member: Member) -> Inflated:
    if member.encrypted:
        raise SkipFile(Reason.UNREADABLE, "encrypted")
    if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SkipFile(Reason.ARCHIVE_NOT_READ, f"packed by zip's method {member.method}")
    stream.seek(member.offset)
    local = stream.read(LOCAL_HEADER.size)
    if len(local) < LOCAL_HEADER.size or not local.startswith(ZIP):
        raise zlib.error("no member")
    name, extra = LOCAL_HEADER.unpack(local)
    stream.seek(name + extra, os.SEEK_CUR)
    return Inflated(_checked(stream, member))


def _checked(stream: BinaryIO, member: Member) -> Iterator[bytes]:
    """Blocks of a member; zlib.error if its content differs from the directory."""
    blocks = _stored(stream, member.packed_bytes)
    if member.method == zipfile.ZIP_DEFLATED:
        blocks = _inflate(zlib.decompressobj(-zlib.MAX_WBITS), blocks)
    crc = size = 0
    for block in blocks:
        crc, size = zlib.crc32(block, crc), size + len(block)
        yield block
    if (crc, size) != (member.crc, member.size):
        raise zlib.error("damaged")


def _stored(stream: BinaryIO, left: int) -> Iterator[bytes]:
    while left:
        block = stream.read(min(left, BLOCK_BYTES))
        if not block:
            raise zlib.error("cut short")
        left -= len(block)
        yield block


class _Bounded(io.BufferedReader):
    """A file of which no large piece is read at once: zipfile reads a directory in one piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # the end of the file, which says where the directory is
            return super().read(MOST_DIRECTORY_BYTES)
        if size > MOST_DIRECTORY_BYTES:
            raise SkipFile(Reason.TOO_LARGE, "too many members")
        return super().read(size)


_held: dict[tuple[object, ...], Directory] = {}  # oldest first


def _directory(archive: Path) -> Directory:
    found = os.stat(archive)
    key = (archive, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    directory = _held.get(key)
    if directory is None:
        directory = Directory(archive, _members(archive))
        _held[key] = directory
        while len(_held) > 1 and (len(_held) > MOST_HELD or _members_held() > MOST_MEMBERS_HELD):
            _held.pop(next(iter(_held)), None)
    return directory


def _members_held() -> int:
    return sum(len(directory.members) for directory in _held.values())


def _members(archive: Path) -> dict[str, Member]:
    """Members by name; raises SkipFile if the archive has several parts or no whole directory."""
    try:
        with _Bounded(io.FileIO(archive)) as stream:
            head = stream.read(HEAD_BYTES)
            with zipfile.ZipFile(stream) as opened:
                infos = [info for info in opened.infolist() if not info.filename.endswith("/")]
    except DAMAGE as error:
        if isinstance(error, OSError) and error.strerror:
            raise SkipFile(Reason.UNREADABLE, error.strerror) from error
        if is_document(head):
            raise SkipFile(Reason.NOT_DICOM) from error
        raise SkipFile(Reason.UNREADABLE, DAMAGED_ARCHIVE) from error
    _require_apart(infos)
    names = _safe_names([info.filename for info in infos])
    return {name: _member(info) for name, info in zip(names, infos, strict=True)}


def _member(info: zipfile.ZipInfo) -> Member:
    return Member(
        info.header_offset,
        info.compress_size,
        info.file_size,
        info.compress_type,
        bool(info.flag_bits & ENCRYPTED),
        info.CRC,
    )


def _require_apart(infos: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse members that overlap: a small file could otherwise inflate without end."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise SkipFile(Reason.UNREADABLE, DAMAGED_ARCHIVE)
        end = info.header_offset + LOCAL_HEADER.size + info.compress_size


def _safe_names(names: Iterable[str]) -> list[str]:
    """Safe relative paths, each unique: ``~2`` is appended to the second of two equal names."""
    safe: list[str] = []
    seen: Counter[str] = Counter()
    taken = set[str]()
    for name in names:
        printable = "".join(one if one.isprintable() else "_" for one in name)
        parts = _DRIVE.sub("", printable).replace("\\", "/").split("/")
        wanted = "/".join(part for part in parts if part not in ("", ".", "..")) or "unnamed"
        found = wanted
        while found in taken:
            seen[wanted] += 1
            found = f"{wanted}~{seen[wanted] + 1}"
        taken.add(found)
        safe.append(found)
    return safe
