"""Cache of compiled OpenVINO models: a private folder of files that contain their own hash.

    SHA-256 of the rest of the file, 32 bytes | the model as exported by OpenVINO

OpenVINO has its own cache, but does not check the files it reads from it: in five of five tries it
loaded a file with one flipped byte silently, and in four of them peaks changed by up to 0.02. Here
the hash is checked first; if it differs, the model is compiled again and the file replaced. The
file name is the hash of everything that a compiled model depends on: files, options, OpenVINO,
processor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.user_folders import only_mine, user_cache_folder

KEPT = 24  # number of compiled models kept, the newest; a YOLOv8n model takes about 10 MB
SUFFIX = ".blob"
HASH_BYTES = hashlib.sha256().digest_size


def cache_folder() -> Path:
    return user_cache_folder() / "openvino"


def compiled_once(
    depends_on: Iterable[bytes],
    compile_model: Callable[[], Any],
    load: Callable[[NDArray[np.uint8]], Any],
) -> Any:
    """Load a compiled model from the cache, or compile it now and add it to the cache.

    If the folder cannot be used (not writable, or writable for others), nothing is cached.

    Args:
        depends_on: everything that the compiled model depends on.
        compile_model: compiles the model.
        load: exported model -> compiled model; raises RuntimeError if OpenVINO rejects it.
    """
    try:
        folder = cache_folder()
    except RuntimeError:  # no home folder
        return compile_model()
    if not _private(folder):
        return compile_model()
    path = folder / f"{_key(depends_on)}{SUFFIX}"
    blob = _read(path)
    if blob is not None:
        with suppress(RuntimeError):
            return load(blob)
    compiled = compile_model()
    with suppress(OSError):  # a full disk or another process may break the cache, never the run
        _write(path, bytes(compiled.export_model().getvalue()))
    return compiled


def _private(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return only_mine(folder.stat())
    except OSError:
        return False


def _key(depends_on: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in depends_on:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _read(path: Path) -> NDArray[np.uint8] | None:
    """The cached blob as a view of the bytes read (no copy: a YOLOv8s blob has 40 MB)."""
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
