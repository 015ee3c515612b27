"""Opening the models of one variant of a bundle, the best one that really opens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.runtime.backends import NO_OPTIONS, Session, load_backend
from rsna_lumbar.runtime.bundle.records import Detector, Model
from rsna_lumbar.runtime.core.errors import BackendError, UsageError
from rsna_lumbar.runtime.inference.compatibility import checked_contents
from rsna_lumbar.runtime.inference.plan import Plan
from rsna_lumbar.runtime.inference.selection import Candidate
from rsna_lumbar.runtime.system.machine import CPU

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
    batch_size: int  # slices


def open_best(
    plan: Plan, *, threads: int, resources: ExitStack, options: Mapping[str, str] = NO_OPTIONS
) -> OpenVariant:
    """Open the first candidate; the next one where a runtime cannot be had after all.

    Args:
        plan: candidates, the best first.
        threads: of the runtime on the CPU.
        resources: closes the sessions later.
        options: the runtime library's own.

    Raises:
        BundleError: a file is not what the manifest says. No other candidate is tried then.
        UsageError, BackendError: the last candidate's trouble.
    """
    failures: list[str] = []
    choice = plan.choice
    for candidate in choice.candidates:
        wanted = [pair for pair in plan.bundle.models if pair[1].variant == candidate.variant]
        with ExitStack() as attempt:
            try:
                models = _open_variant(plan, wanted, candidate.device, threads, attempt, options)
            except (UsageError, BackendError) as error:
                if candidate is choice.candidates[-1]:
                    raise
                failures.append(f"{candidate.variant} on {candidate.device} failed ({error})")
                continue
            resources.push(attempt.pop_all())
        note = "; ".join(filter(None, (choice.why(candidate), *failures)))
        size = plan.batch_size or default_batch_size([one for _, one in wanted], candidate.device)
        return OpenVariant(candidate, note, models, size)
    raise AssertionError("a choice has candidates")


def default_batch_size(models: Iterable[Model], device: str) -> int:
    """The backend's own for the device, within what every engine takes.

    Args:
        models: of one backend, at least one.
        device: ``cpu`` or ``cuda:N``.
    """
    models = list(models)
    size = load_backend(models[0].backend).default_batch_size(device)
    return min([size, *(one.engine.largest_batch for one in models if one.engine)])


def open_model(
    folder: Path,
    model: Model,
    detector: Detector,
    *,
    device: str,
    threads: int,
    batch_size: int | None = None,
    options: Mapping[str, str] = NO_OPTIONS,
) -> Session:
    """Check the files of a model and open them; to be closed by the caller.

    No library is loaded before the hashes were compared.

    Args:
        folder: of the bundle.
        model: of it.
        detector: of it.
        device: ``cpu`` or ``cuda:N``.
        threads: of the runtime on the CPU.
        batch_size: most slices of a batch; None takes :func:`default_batch_size`.
        options: the runtime library's own.

    Raises:
        BundleError: a file is not what the manifest says.
        UsageError: the device or the library cannot be had.
        BackendError: the runtime refuses the model.
    """
    contents = checked_contents(folder, model)
    return load_backend(model.backend).open_session(
        contents,
        model=model,
        detector=detector,
        device=device,
        threads=threads,
        batch_size=batch_size or default_batch_size([model], device),
        options=options,
    )


def _open_variant(
    plan: Plan,
    wanted: Sequence[tuple[Detector, Model]],
    device: str,
    threads: int,
    resources: ExitStack,
    options: Mapping[str, str],
) -> dict[str, tuple[OpenModel, ...]]:
    opened: dict[str, tuple[OpenModel, ...]] = {}
    at_a_time = OPENED_AT_A_TIME if device == CPU else 1
    with ThreadPoolExecutor(at_a_time, "opening") as openers:
        opening = [
            openers.submit(
                open_model,
                plan.folder,
                model,
                detector,
                device=device,
                threads=threads,
                batch_size=plan.batch_size,
                options=options,
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
