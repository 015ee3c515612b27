"""Open the models of one variant of a bundle: the best one that really opens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rsna_lumbar.runtime.backends import NO_OPTIONS, Session, SessionSettings, load_backend
from rsna_lumbar.runtime.bundle.records import Detector, Model
from rsna_lumbar.runtime.core.errors import BackendError, UsageError
from rsna_lumbar.runtime.inference.compatibility import checked_contents
from rsna_lumbar.runtime.inference.plan import Plan
from rsna_lumbar.runtime.inference.selection import Candidate
from rsna_lumbar.runtime.system.machine import CPU

# On a CPU half of the time to open is hashing and copying, which two threads do in parallel.
OPENED_AT_A_TIME = 2


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model of the bundle and its session."""

    model: Model
    session: Session


@dataclass(frozen=True, slots=True)
class OpenVariant:
    """A variant of the bundle, opened."""

    candidate: Candidate
    note: str  # why this variant, and which ones were tried before
    models: Mapping[str, tuple[OpenModel, ...]]  # group -> its models, one per checkpoint
    batch_size: int  # slices per batch


def open_best(
    plan: Plan, *, threads: int, resources: ExitStack, options: Mapping[str, str] = NO_OPTIONS
) -> OpenVariant:
    """Open the first candidate, or the next one if its runtime library is not available after all.

    ``resources`` closes the sessions later.

    Raises:
        BundleError: a file differs from the manifest. No other candidate is tried in this case.
        UsageError, BackendError: the last candidate's error.
    """
    failures: list[str] = []
    choice = plan.choice
    for candidate in choice.candidates:
        wanted = [pair for pair in plan.bundle.models if pair[1].variant == candidate.variant]
        settings = SessionSettings(candidate.device, threads, plan.batch_size, options)
        with ExitStack() as attempt:
            try:
                models = _open_variant(plan.folder, wanted, settings, attempt)
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
    """The default of these models' backend for the device, within the limits of every engine."""
    models = list(models)
    size = load_backend(models[0].backend).default_batch_size(device)
    return min([size, *(one.engine.largest_batch for one in models if one.engine)])


def open_model(
    folder: Path, model: Model, detector: Detector, settings: SessionSettings
) -> Session:
    """Check the files of a model of a bundle and open it; the caller must close the session.

    No library is loaded before the hashes are checked. Without a batch size, the model is opened
    for :func:`default_batch_size`.

    Raises:
        BundleError: a file differs from the manifest.
        UsageError: the device or the library is not available.
        BackendError: the runtime library rejects the model.
    """
    contents = checked_contents(folder, model)
    size = settings.batch_size or default_batch_size([model], settings.device)
    settings = replace(settings, batch_size=size)
    return load_backend(model.backend).open_session(contents, model, detector, settings)


def _open_variant(
    folder: Path,
    wanted: Sequence[tuple[Detector, Model]],
    settings: SessionSettings,
    resources: ExitStack,
) -> dict[str, tuple[OpenModel, ...]]:
    opened: dict[str, tuple[OpenModel, ...]] = {}
    at_a_time = OPENED_AT_A_TIME if settings.device == CPU else 1
    with ThreadPoolExecutor(at_a_time, "opening") as openers:
        opening = [
            openers.submit(open_model, folder, model, detector, settings)
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
