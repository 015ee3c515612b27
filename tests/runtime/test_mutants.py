"""Changed model files: refused with the reason before any runtime sees a byte of them.

Hundreds of mutants of each kind of file. Where the manifest still names the right hash, the hash
refuses all of them. Where somebody wrote the mutant's hash into the manifest too, an engine is
refused by its header or because it was not built here.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from machines import ENGINE, L4, machine
from toys import write_toy_bundle

from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.trust import trust_engines
from rsna_lumbar.runtime.core.errors import BundleError, UsageError
from rsna_lumbar.runtime.inference import plan as planning
from rsna_lumbar.runtime.inference import sessions

HEADER_BYTES = 28
CPU, GPU = machine(), machine(L4)


def plan() -> bytes:
    body = np.random.default_rng(0).bytes(4000)
    return struct.pack("<II8xQ4B", 0x74727466, 0, HEADER_BYTES + len(body), 11, 4, 0, 106) + body


def mutants(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Bits flipped in every byte of the header and all over the rest; cut, grown and emptied."""
    places = {*range(64), *np.linspace(64, len(content) - 1, 200).astype(int).tolist()}
    for place in sorted(place for place in places if place < len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        yield f"bit flipped at {place}", bytes(changed)
    for length in (0, 1, 3, 4, 23, 24, 27, 28, 63, len(content) // 2, len(content) - 1):
        yield f"cut to {length}", content[:length]
    yield "grown", content + b"\0"
    yield "zero-filled tail", content[:-100] + bytes(100)
    yield "another file", b"\x89PNG\r\n" + content


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toy bundle with an engine for each group, on a machine that could run all of it.

    Nothing is ever opened: an attempt to load a backend fails the test.
    """
    write_toy_bundle(tmp_path / "bundle")
    fields = manifest(tmp_path / "bundle")
    for name, detector in fields["detectors"].items():
        content = plan() + name.encode()
        file = tmp_path / "bundle" / f"{name}.plan"
        file.write_bytes(content)
        model = {
            **detector["models"][0],
            "files": [{"name": file.name, "sha256": hashlib.sha256(content).hexdigest()}],
            "backend": "tensorrt",
            "target": "sm89",
            "precision": "fp16",
            "parity": {**detector["models"][0]["parity"], "device": "cuda:0"},
            "engine": {
                "version": ENGINE.version,
                "compute_capabilities": ["8.9"],
                "least_batch": 1,
                "best_batch": 16,
                "largest_batch": 64,
            },
        }
        detector["models"].append(model)
    write(tmp_path / "bundle", fields)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    trust_engines(
        file.sha256
        for _, model in read_bundle(tmp_path / "bundle").models
        if model.engine
        for file in model.files
    )
    monkeypatch.setattr(planning, "this_machine", lambda: GPU)
    monkeypatch.setattr(sessions, "load_backend", refuse_to_load)
    return tmp_path / "bundle"


class Loaded(Exception):
    """A backend was about to see a file."""


def refuse_to_load(name: str) -> Any:
    raise Loaded(name)


def manifest(bundle: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    return fields


def write(bundle: Path, fields: dict[str, Any]) -> None:
    (bundle / "bundle.json").write_text(json.dumps(fields))


def rehash(bundle: Path, name: str) -> None:
    """Write the hash that a file has now into the manifest."""
    fields = manifest(bundle)
    sha256 = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    for detector in fields["detectors"].values():
        for model in detector["models"]:
            for file in model["files"]:
                if file["name"] == name:
                    file["sha256"] = sha256
    write(bundle, fields)


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_unchanged_files_reach_the_backend(bundle: Path, backend: str) -> None:
    """What the other tests rest on."""
    with pytest.raises(Loaded, match=backend):
        Scorer(bundle, backend=backend)


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_the_hash_refuses_every_mutant(bundle: Path, backend: str) -> None:
    model = next(m for _, m in read_bundle(bundle).models if m.backend == backend)
    path = bundle / model.files[0].name
    original = path.read_bytes()
    count = 0
    for what, content in mutants(original):
        path.write_bytes(content)
        with pytest.raises(BundleError, match=r"is not the file that bundle\.json names"):
            Scorer(bundle, backend=backend)
            pytest.fail(what)
        count += 1
    assert count > 250


def test_a_mutant_with_its_hash_in_the_manifest_is_not_an_engine_from_here(bundle: Path) -> None:
    path = bundle / "spinal.plan"
    original = path.read_bytes()
    for what, content in mutants(original):
        path.write_bytes(content)
        rehash(bundle, path.name)
        with pytest.raises(UsageError, match="an engine from elsewhere"):
            Scorer(bundle, backend="tensorrt")
            pytest.fail(what)


def test_with_trust_the_header_still_refuses(bundle: Path) -> None:
    """Every byte of the header that says something: magic, layout, length, version."""
    path = bundle / "spinal.plan"
    original = path.read_bytes()
    for place in (*range(8), 23, *range(24, 28)):
        changed = bytearray(original)
        changed[place] ^= 0x80
        path.write_bytes(bytes(changed))
        rehash(bundle, path.name)
        with pytest.raises(BundleError, match=r"spinal\.plan (is no engine|was built by)"):
            Scorer(bundle, backend="tensorrt", trust=True)
            pytest.fail(f"byte {place}")
    for length in range(HEADER_BYTES + 1):
        path.write_bytes(original[:length])
        rehash(bundle, path.name)
        with pytest.raises(BundleError, match="is no engine"):
            Scorer(bundle, backend="tensorrt", trust=True)


@pytest.mark.parametrize("suffix", [".onnx", ".plan"])
def test_swapped_files_are_refused(bundle: Path, suffix: str) -> None:
    first, second = sorted(path for path in bundle.iterdir() if path.suffix == suffix)[:2]
    spare = shutil.copy(first, bundle.parent / "spare")
    shutil.copy(second, first)
    shutil.copy(spare, second)
    backend = "onnxruntime" if suffix == ".onnx" else "tensorrt"
    with pytest.raises(BundleError, match="SHA-256"):
        Scorer(bundle, backend=backend)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "10.9.0.34"}, "built by tensorrt 10.9.0.34, installed is 11.4.0.106"),
        ({"compute_capabilities": ["9.0"]}, "built for compute capability 9.0"),
        ({"compute_capabilities": []}, "built for compute capability"),
    ],
)
def test_engines_for_others_are_refused_by_the_manifest(
    bundle: Path, change: dict[str, Any], reason: str
) -> None:
    fields = manifest(bundle)
    for detector in fields["detectors"].values():
        detector["models"][1]["engine"].update(change)
    write(bundle, fields)
    with pytest.raises(UsageError, match=reason):
        Scorer(bundle, backend="tensorrt")
