"""The model files of a bundle: how they are named, read and removed.

The SHA-256 of every model file is checked before the file is opened as a model.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from rsna_lumbar.runtime.bundle.records import MANIFEST, PRECISIONS, REBUILD, Bundle, Model
from rsna_lumbar.runtime.core.errors import BundleError
from rsna_lumbar.runtime.core.labels import GROUP_BY_NAME, Group

# Format of model_file_name: group, backend, target, precision, 12 digits of the SHA-256.
MODEL_FILE_NAME = re.compile(
    rf"({'|'.join(GROUP_BY_NAME)})-[a-z]+(-rtx)?-[a-z0-9.]+-({'|'.join(PRECISIONS)})"
    r"-[0-9a-f]{12}\.[a-z]+"
)


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_model(folder: Path, model: Model) -> tuple[bytes, ...]:
    """Contents of a model's files, after checking their hashes against the manifest.

    Raises:
        BundleError: a file is missing, or its SHA-256 differs.
    """
    return tuple(_read_file(folder / file.name, file.sha256) for file in model.files)


def _read_file(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); {REBUILD}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BundleError(
            f"{path} is not the file that {MANIFEST} names: its SHA-256 is {found[:12]}..., "
            f"expected {sha256[:12]}...; {REBUILD}"
        )
    return content


def remove_unreferenced(folder: Path, bundle: Bundle) -> None:
    """Delete model files of earlier bundles: only files named like a bundle's model files."""
    kept = {file.name for _, model in bundle.models for file in model.files}
    for path in folder.iterdir():
        if MODEL_FILE_NAME.fullmatch(path.name) and path.name not in kept:
            path.unlink()


def model_file_name(
    group: Group, backend: str, target: str, precision: str, sha256: str, suffix: str
) -> str:
    """``spinal-onnxruntime-any-fp32-<12 digits of the SHA-256>.onnx``."""
    return f"{group.name}-{backend}-{target}-{precision}-{sha256[:12]}{suffix}"
