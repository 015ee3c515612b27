"""One model: its files written, then run where it can run here and compared with the reference."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from pathlib import Path

from rsna_lumbar.export.bundling.options import Pair
from rsna_lumbar.export.bundling.publish import write_through
from rsna_lumbar.export.formats import BACKEND_OF, Built, Report
from rsna_lumbar.export.verification.data import Sets
from rsna_lumbar.export.verification.parity import Checked, Expected, verify
from rsna_lumbar.runtime.backends import Session
from rsna_lumbar.runtime.bundle.records import Detector, Model, ModelFile
from rsna_lumbar.runtime.bundle.store import model_file_name
from rsna_lumbar.runtime.core.errors import BackendError, UsageError, VerificationError
from rsna_lumbar.runtime.inference.compatibility import judge
from rsna_lumbar.runtime.inference.sessions import default_batch_size, open_model
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.machine import this_machine


def write_model(
    folder: Path, built: Built, pair: Pair, detector: Detector, weights_sha256: str
) -> Model:
    """Write a model's files through to the disk; it is not verified yet."""
    name, precision = pair
    backend = BACKEND_OF[name]
    files = []
    for file in built.files:
        sha256 = hashlib.sha256(file.content).hexdigest()
        path = folder / model_file_name(
            detector.group, backend, built.target, precision, sha256, file.suffix
        )
        write_through(path, file.content)
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
    detector: Detector,
    sets: Sets,
    expected: Expected,
    *,
    source: str,
    report: Report,
    trusted: Container[str] | None = None,
) -> Checked | None:
    """Run a model where it can run on this machine, and compare it with the reference.

    Returns:
        Its answers and how far they are off; None where it cannot run here.

    Args:
        folder: where its files are.
        model: as the manifest describes it, or is about to.
        detector: of it.
        sets: to run it on.
        expected: the reference's answers on them.
        source: what they are, for the record.
        report: takes a line where it cannot run here.
        trusted: SHA-256 of the engines that may be opened; None trusts it, as one just built.

    Raises:
        VerificationError: a runtime that is there cannot open or run it.
    """
    verdict = judge(model, this_machine(), trusted=trusted)
    if not verdict.devices:
        report(f"{detector.group.name}: {model.variant} was not run here: {verdict.reason}")
        return None
    try:
        session = _open(folder, model, detector, verdict.devices)
    except UsageError as error:
        report(f"{detector.group.name}: {model.variant} was not run here: {error}")
        return None
    with session:
        try:
            return verify(
                session,
                sets,
                expected,
                detector=detector,
                batch_size=default_batch_size([model], session.device),
                source=source,
            )
        except BackendError as error:
            raise VerificationError(f"{model.files[0].name}: {error}") from error


def _open(folder: Path, model: Model, detector: Detector, devices: Sequence[str]) -> Session:
    """On the first device that can really be had.

    Raises:
        UsageError: on none.
        VerificationError: the runtime refuses the model.
    """
    for device in devices:
        try:
            return open_model(folder, model, detector, device=device, threads=usable_cores())
        except UsageError:
            if device == devices[-1]:
                raise
        except BackendError as error:
            raise VerificationError(f"{model.files[0].name}: {error}") from error
    raise AssertionError("a verdict has devices")
