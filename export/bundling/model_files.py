"""One model: write its files, then run it, if this machine can, and compare it."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.export.bundling.options import Pair
from rsna_lumbar.export.formats import BACKEND_OF, Built, Report
from rsna_lumbar.export.verification.data import Sets
from rsna_lumbar.export.verification.parity import Checked, Expected, verify
from rsna_lumbar.runtime.backends import SessionSettings
from rsna_lumbar.runtime.bundle.records import Detector, Model, ModelFile
from rsna_lumbar.runtime.bundle.store import model_file_name
from rsna_lumbar.runtime.core.errors import BackendError, UsageError, VerificationError
from rsna_lumbar.runtime.inference.compatibility import judge
from rsna_lumbar.runtime.inference.sessions import default_batch_size, open_model
from rsna_lumbar.runtime.system.atomic_files import atomic_file
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.machine import this_machine


@dataclass(frozen=True, eq=False, slots=True)
class Base:
    """The float32 graph of one checkpoint, and the answers expected of all that is made from it."""

    name: str  # for messages
    detector: Detector
    graph: bytes
    model: Model
    sets: Sets  # to verify on
    expected: Expected


def write_model(
    folder: Path, built: Built, pair: Pair, detector: Detector, weights_sha256: str
) -> Model:
    """Write and sync a model's files; it is not verified yet."""
    name, precision = pair
    backend = BACKEND_OF[name]
    files = []
    for file in built.files:
        sha256 = hashlib.sha256(file.content).hexdigest()
        path = folder / model_file_name(
            detector.group, backend, built.target, precision, sha256, file.suffix
        )
        with atomic_file(path) as stream:
            stream.write(file.content)
        files.append(ModelFile(path.name, sha256))
    return Model(
        files=tuple(files),
        backend=backend,
        target=built.target,
        precision=precision,
        weights_sha256=weights_sha256,
        engine=built.engine,
        parity=None,
    )


def try_model(
    folder: Path,
    model: Model,
    base: Base,
    *,
    source: str,
    report: Report,
    trusted: Container[str] | None = None,
) -> Checked | None:
    """Run a model on the first device that is available, and compare it with the reference.

    Args:
        base: the float32 graph that it is made from.
        source: the source of the sets, for the record.
        report: takes a line if no device can run it; then None is returned.
        trusted: SHA-256 of the engines that may be opened; None trusts it, as one just built.

    Raises:
        VerificationError: an installed runtime cannot open or run it.
    """
    detector = base.detector
    verdict = judge(model, this_machine(), trusted=trusted)
    reason = verdict.reason
    for device in verdict.devices:
        try:
            opened = open_model(folder, model, detector, SessionSettings(device, usable_cores()))
        except UsageError as error:  # the device is not available after all
            reason = str(error)
            continue
        except BackendError as error:
            raise VerificationError(f"{model.files[0].name}: {error}") from error
        try:
            with opened as session:
                size = default_batch_size([model], session.device)
                return verify(
                    session, base.sets, base.expected, detector=detector, batch_size=size,
                    source=source,
                )  # fmt: skip
        except BackendError as error:
            raise VerificationError(f"{model.files[0].name}: {error}") from error
    report(f"{detector.group.name}: {model.variant} was not run here: {reason}")
    return None
