"""Studies -> 25 rows each: the pipeline from found studies to scores.

    studies -> requests -> sets (decoded ahead) -> batches -> sessions -> peaks -> probabilities

Everything happens in one fixed order: study by study, group by group. A batch never holds sets of
two chunks, so a chunk can be repeated alone.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice, tee
from pathlib import Path
from types import TracebackType
from typing import Self

from rsna_lumbar.runtime.assembly import Assembly
from rsna_lumbar.runtime.backends import load_backend
from rsna_lumbar.runtime.bundle import Bundle, read_bundle
from rsna_lumbar.runtime.choice import Candidate, Wanted, choose
from rsna_lumbar.runtime.cores import usable_cores
from rsna_lumbar.runtime.decoding import open_decoder
from rsna_lumbar.runtime.discovery import Inventory, Study, StudyStream
from rsna_lumbar.runtime.errors import BundleError
from rsna_lumbar.runtime.machine import this_machine
from rsna_lumbar.runtime.opened import OpenVariant, open_best
from rsna_lumbar.runtime.scores import GroupScore, PeakPlace, StudyScore
from rsna_lumbar.runtime.sets import SetRequest, SliceSet, decode_sets
from rsna_lumbar.runtime.trust import TrustedEngines

__all__ = ["STUDIES_A_CHUNK", "GroupScore", "PeakPlace", "Scorer", "StudyScore"]

STUDIES_A_CHUNK = 32


def decoded_sets(
    bundle: Bundle, found: Inventory | StudyStream, *, workers: int, slices: str = "all"
) -> Generator[SliceSet, None, None]:
    """Every set of every study, also where there is nothing to decode, in the order of scoring.

    Args:
        bundle: its detectors say what is read, its preprocessing how.
        found: studies, consumed a little ahead.
        workers: decoding processes, started with the first set; 0 decodes in this one.
        slices: a name in ``rsna_lumbar.runtime.sets.SELECTIONS``.
    """
    largest_px = max(one.size_px for one in bundle.detectors)
    with open_decoder(workers, bundle.preprocessing, largest_px=largest_px) as decoder:
        yield from decode_sets(
            _requests(bundle, found.studies), decoder, data=found.data, slices=slices
        )


class Scorer:
    """A bundle opened for scoring; a context manager.

    Args:
        bundle_folder: made by rsna-export.
        backend: a name in ``rsna_lumbar.runtime.backends.BACKENDS``, or ``auto``: the fastest that
            the bundle holds and this machine can run.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``, or ``auto``.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: slices in a batch; None takes the backend's default for the device.
        threads: of the runtime on the CPU; None takes every usable core.
        trust: open engines that were not built or accepted here, too. They are code.

    Raises:
        BundleError: the bundle cannot be trusted.
        UsageError: the backend, precision or device cannot be had.
        BackendError: a model cannot be opened.
    """

    def __init__(
        self,
        bundle_folder: Path,
        *,
        backend: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        threads: int | None = None,
        trust: bool = False,
    ) -> None:
        self._resources = ExitStack()
        wanted = Wanted(backend, precision, device, batch_size)
        trusted = None if trust else TrustedEngines()
        self.bundle: Bundle = read_bundle(bundle_folder)
        try:
            opened = self._open(bundle_folder, wanted, trusted, threads)
        except BundleError:
            before, self.bundle = self.bundle, read_bundle(bundle_folder)
            if self.bundle == before:
                raise
            # It was replaced between its manifest and its files.
            opened = self._open(bundle_folder, wanted, trusted, threads)
        self.opened = opened.models
        self.candidate: Candidate = opened.candidate
        self.device = opened.candidate.device
        self.note = opened.note
        self.batch_size = batch_size or self._default_batch_size()

    def _open(
        self,
        folder: Path,
        wanted: Wanted,
        trusted: Container[str] | None,
        threads: int | None,
    ) -> OpenVariant:
        return open_best(
            folder,
            self.bundle,
            choose(self.bundle, this_machine(), wanted, trusted),
            threads=threads or usable_cores(),
            resources=self._resources,
        )

    @property
    def backend(self) -> str:
        return self.candidate.variant.backend

    @property
    def precision(self) -> str:
        return self.candidate.variant.precision

    def _default_batch_size(self) -> int:
        """The backend's own, within what every engine takes."""
        size = load_backend(self.backend).default_batch_size(self.device)
        engines = [one.model.engine for models in self.opened.values() for one in models]
        return min([size, *(engine.largest_batch for engine in engines if engine)])

    def score(self, found: Inventory | StudyStream, *, workers: int = 0) -> Iterator[StudyScore]:
        """Score the studies that were found, in their order.

        Args:
            found: from :func:`rsna_lumbar.runtime.find_studies` or ``stream_studies``.
            workers: decoding processes; 0 decodes in this one, beside the model. With workers, a
                script needs ``if __name__ == "__main__":``, since they import it.

        Raises:
            BackendError: a model failed, or returned what is not a number.
            DataError: a decoding process could not start.
        """
        here, ahead = (
            StudyStream(found.data, found.count, found.strays, studies)
            for studies in tee(found.studies)
        )
        with closing(self.decoded(ahead, workers=workers)) as sets:
            yield from self.scored(here, sets)

    def decoded(
        self, found: Inventory | StudyStream, *, workers: int = 0
    ) -> Generator[SliceSet, None, None]:
        """The first half of :meth:`score`: every set of every study, in order."""
        return decoded_sets(self.bundle, found, workers=workers)

    def scored(
        self, found: Inventory | StudyStream, sets: Iterable[SliceSet]
    ) -> Iterator[StudyScore]:
        """The second half of :meth:`score`: scores of studies whose sets were decoded."""
        assembly = Assembly(self.bundle.detectors, self.opened, self.batch_size)
        sets = iter(sets)
        for number, study in enumerate(found.studies, start=1):
            assembly.begin(study)
            for one in islice(sets, len(self.bundle.detectors)):
                assembly.add(one)
            if number % STUDIES_A_CHUNK == 0:
                assembly.flush()
            yield from assembly.complete()
        yield from assembly.finish()

    def close(self) -> None:
        """Release the models."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _requests(bundle: Bundle, studies: Iterable[Study]) -> Iterator[SetRequest]:
    for study in studies:
        for detector in bundle.detectors:
            files = tuple(series.files for series in study.of(detector.group))
            yield SetRequest(study.study_id, detector.group, detector.size_px, files)
