"""Opening the models of one variant of a bundle, the best one that really opens."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.runtime.backends import Session, load_backend
from rsna_lumbar.runtime.bundle import Bundle, Detector, Model
from rsna_lumbar.runtime.choice import Candidate, Choice
from rsna_lumbar.runtime.compatibility import checked_contents
from rsna_lumbar.runtime.errors import BackendError, UsageError
from rsna_lumbar.runtime.machine import CPU

# On a CPU half of opening is hashing and copying, which two threads do beside each other.
OPENED_AT_A_TIME = 2


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model of the bundle, opened."""

    model: Model
    session: Session


@dataclass(frozen=True, slots=True)
class OpenVariant:
    """A variant of the bundle, opened."""

    candidate: Candidate
    note: str  # why this one, and what was tried before
    models: Mapping[str, tuple[OpenModel, ...]]  # by group; one for each checkpoint


def open_best(
    folder: Path, bundle: Bundle, choice: Choice, *, threads: int, resources: ExitStack
) -> OpenVariant:
    """Open the first candidate; the next one where a runtime cannot be had after all.

    Args:
        folder: of the bundle.
        bundle: its manifest.
        choice: candidates, the best first.
        threads: of the runtime on the CPU.
        resources: closes the sessions later.

    Raises:
        BundleError: a file is not what the manifest says. No other candidate is tried then.
        UsageError, BackendError: the last candidate's trouble.
    """
    failures: list[str] = []
    for candidate in choice.candidates:
        with ExitStack() as attempt:
            try:
                models = _open_variant(folder, bundle, candidate, threads, attempt)
            except (UsageError, BackendError) as error:
                if candidate is choice.candidates[-1]:
                    raise
                failures.append(f"{candidate.variant} on {candidate.device} failed ({error})")
                continue
            resources.push(attempt.pop_all())
        note = "; ".join(filter(None, (choice.why(candidate), *failures)))
        return OpenVariant(candidate, note, models)
    raise AssertionError("a choice has candidates")


def open_model(
    folder: Path, model: Model, detector: Detector, *, device: str, threads: int
) -> Session:
    """Check the files of a model and open them; to be closed by the caller.

    Raises:
        BundleError: a file is not what the manifest says.
        UsageError: the device or the library cannot be had.
        BackendError: the runtime refuses the model.
    """
    contents = checked_contents(folder, model)
    return load_backend(model.backend).open_session(
        contents, model=model, detector=detector, device=device, threads=threads
    )


def _open_variant(
    folder: Path, bundle: Bundle, candidate: Candidate, threads: int, resources: ExitStack
) -> dict[str, tuple[OpenModel, ...]]:
    wanted = [pair for pair in bundle.models if pair[1].variant == candidate.variant]
    opened: dict[str, tuple[OpenModel, ...]] = {}
    at_a_time = OPENED_AT_A_TIME if candidate.device == CPU else 1
    with ThreadPoolExecutor(at_a_time, "opening") as openers:
        opening = [
            openers.submit(
                open_model, folder, model, detector, device=candidate.device, threads=threads
            )
            for detector, model in wanted
        ]
        try:
            for (detector, model), session in zip(wanted, opening, strict=True):
                one = OpenModel(model, resources.enter_context(session.result()))
                name = detector.group.name
                opened[name] = (*opened.get(name, ()), one)
        except BaseException:
            for session in opening:
                if not session.cancel() and session.exception() is None:
                    session.result().close()  # closing twice does no harm
            raise
    return opened
