"""Compiled OpenVINO models, kept between runs: a private folder of files that carry their hash.

    SHA-256 of what follows, 32 bytes | what OpenVINO exported

OpenVINO has a cache of its own and does not check what it reads from it: one flipped byte was
loaded without a word in five tries of five, and changed peaks by up to 0.02 in four. Here the hash
comes first; a file that does not fit it is compiled again and written over. The name holds the
hash of all that a compiled model depends on: files, options, OpenVINO, processor.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.user_folders import user_cache_folder

KEPT = 24  # compiled models, the newest; those of YOLOv8n take some 10 MB each
SUFFIX = ".blob"
HASH_BYTES = hashlib.sha256().digest_size
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path:
    """In the user's cache folder."""
    return user_cache_folder() / "openvino"


def compiled_once(
    depends_on: Iterable[bytes],
    compile_model: Callable[[], Any],
    load: Callable[[NDArray[np.uint8]], Any],
) -> Any:
    """A compiled model from the cache, else compiled now and put into it.

    Where the folder cannot be used (not writable, or others could write to it), there is no cache.

    Args:
        depends_on: everything that the compiled model follows from.
        compile_model: compiles it.
        load: what OpenVINO exported -> the compiled model; RuntimeError where it will not.
    """
    try:
        folder = cache_folder()
    except RuntimeError:  # no home
        return compile_model()
    if not _private(folder):
        return compile_model()
    path = folder / f"{_key(depends_on)}{SUFFIX}"
    blob = _read(path)
    if blob is not None:
        with suppress(RuntimeError):
            return load(blob)
    compiled = compile_model()
    with suppress(OSError):  # a full disk or another process costs the cache, not the run
        _write(path, bytes(compiled.export_model().getvalue()))
    return compiled


def _private(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except (OSError, RuntimeError):  # RuntimeError: no home
        return False
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return mine and not found.st_mode & WRITABLE_BY_OTHERS


def _key(depends_on: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in depends_on:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _read(path: Path) -> NDArray[np.uint8] | None:
    """A view of what was read: a blob of YOLOv8s has 40 MB."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if len(content) <= HASH_BYTES:
        return None
    if hashlib.sha256(memoryview(content)[HASH_BYTES:]).digest() != content[:HASH_BYTES]:
        return None
    return np.frombuffer(content, np.uint8, offset=HASH_BYTES)


def _write(path: Path, blob: bytes) -> None:
    write_atomically(path, hashlib.sha256(blob).digest() + blob)
    others = sorted(path.parent.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime)
    for old in others[:-KEPT]:
        old.unlink(missing_ok=True)
