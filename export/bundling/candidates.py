"""The models of one export: made and verified, kept or excluded, and joined to a bundle.

A variant is accepted or excluded as a whole: if one detector exceeds a limit, the models of all
groups are excluded. The official metric combines the groups, so it is judged at the end. If a
builder fails, nothing is known of the models of its variant that the bundle has: they stay.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.bundling.model_files import Base, try_model, write_model
from rsna_lumbar.export.bundling.options import BASE, ExportOptions, Pair
from rsna_lumbar.export.bundling.publish import BUILD_LOG
from rsna_lumbar.export.formats import BACKEND_OF, Report, load_format
from rsna_lumbar.export.verification.data import VerificationData, calibration_slices
from rsna_lumbar.export.verification.parity import Peaks, require_parity
from rsna_lumbar.runtime.bundle.records import ANY_TARGET, Bundle, Detector, Model, Variant
from rsna_lumbar.runtime.core.errors import BuildError, VerificationError
from rsna_lumbar.runtime.core.preprocess import Preprocessing

CalibrationSlices = Callable[[Path, Detector, Preprocessing], NDArray[np.uint8]]

BASE_VARIANT = Variant(BACKEND_OF[BASE[0]], ANY_TARGET, BASE[1])


@dataclass(frozen=True, eq=False, slots=True)
class Made:
    """A model for the new bundle."""

    group: str
    model: Model
    peaks: Peaks | None  # on the verification studies; None if it was not compared


@dataclass(eq=False, slots=True)
class Workshop:
    """Everything that one export has made so far."""

    aside: Path
    options: ExportOptions
    data: VerificationData
    preprocessing: Preprocessing
    report: Report
    made: list[Made] = field(default_factory=list)
    left_out: dict[Variant, str] = field(default_factory=dict)  # why
    not_built: set[Variant] = field(default_factory=set)  # those whose builder failed
    expected: dict[str, list[Peaks]] = field(default_factory=dict)  # group -> one per checkpoint
    # Only the slices of one group are kept at a time.
    calibration: CalibrationSlices = field(default_factory=lambda: lru_cache(1)(calibration_slices))
    engines: list[str] = field(default_factory=list)  # SHA-256 of those built or run here

    def process(
        self,
        bases: Iterable[Base],
        folder: Path,
        pairs: Sequence[Pair],
        *,
        trusted: Container[str] | None = None,
    ) -> None:
        """Verify the models of a group and make those of ``pairs``.

        Args:
            bases: its float32 graphs, which are verified too.
            folder: the folder of these graphs and of the models that the bundle has.
            trusted: SHA-256 of the engines that may be opened; None trusts all.

        Raises:
            VerificationError: a float32 graph exceeds its limits, so nothing can be made from it.
        """
        # Models that are about to be made again; engines for other GPUs stay as they are.
        replaced = {(BACKEND_OF[name], precision) for name, precision in pairs}
        for base in bases:
            self.expected.setdefault(base.detector.group.name, []).append(base.expected.peaks)
            for model in base.detector.models or (base.model,):
                same = model.weights_sha256 == base.model.weights_sha256
                if same and (model.backend, model.precision) not in replaced:
                    count = sum(map(len, base.sets.values()))
                    self.report(f"{base.name}: verifying {model.variant} on {count} slices")
                    self._add(folder, model, base, trusted)
            self._add_pairs(base, pairs)

    def made_nothing(self, pairs: Sequence[Pair]) -> bool:
        """Whether every builder failed and nothing else is to be changed."""
        failed = {(one.backend, one.precision) for one in self.not_built}
        asked = {(BACKEND_OF[name], precision) for name, precision in pairs}
        return bool(failed) and failed == asked and self.left_out.keys() == self.not_built

    def bundle(self, before: Bundle) -> Bundle:
        """``before`` with the models that were made, instead of its own of the same variants.

        Excluded variants are removed from it, except those that could not be built.

        Raises:
            VerificationError: the float32 graphs themselves exceed the limit of the metric.
        """
        metrics = self._metrics(before)
        self._judge(metrics)
        if BASE_VARIANT in self.left_out:
            raise VerificationError(self.left_out[BASE_VARIANT])
        again = {one.model.variant for one in self.made} | self.left_out.keys()
        detectors = tuple(
            replace(one, models=self._models(one, again - self.not_built, metrics))
            for one in before.detectors
        )
        return replace(before, detectors=detectors)

    def _add(self, folder: Path, model: Model, base: Base, trusted: Container[str] | None) -> None:
        """Run a model, if this machine can, compare it, and keep or exclude it."""
        if model.variant in self.left_out:
            return
        try:
            self.made.append(self._tried(folder, model, base, trusted))
        except VerificationError as error:
            if model.variant == BASE_VARIANT:
                raise
            self._leave_out(model.variant, str(error))

    def _add_pairs(self, base: Base, pairs: Sequence[Pair]) -> None:
        """Make a model for every pair of format and precision, and add it."""
        options = replace(self.options.build, log=self.aside / BUILD_LOG)
        graphs: dict[tuple[str, str], bytes] = {}
        for name, precision in pairs:
            failed = {(variant.backend, variant.precision) for variant in self.left_out}
            if (BACKEND_OF[name], precision) in failed:
                continue
            self.report(f"{base.name}: {name} {precision}")
            kind = (precision, load_format(name).INT8_SCHEME)
            if kind not in graphs:
                graphs[kind] = self._graph(base, *kind)
            try:
                built = load_format(name).build(name, graphs[kind], precision, options, self.report)
            except BuildError as error:
                variant = Variant(BACKEND_OF[name], error.target, precision)
                self.not_built.add(variant)
                again = f"to try again, add --format {name} --precision {precision}"
                self._leave_out(variant, f"{base.name}: {error}; {again}")
                continue
            sha256 = base.model.weights_sha256
            model = write_model(self.aside, built, (name, precision), base.detector, sha256)
            self._note_engine(model)
            self._add(self.aside, model, base, None)

    def _tried(
        self, folder: Path, model: Model, base: Base, trusted: Container[str] | None
    ) -> Made:
        """The model with its parity, or unverified."""
        group = base.detector.group.name
        checked = try_model(
            folder, model, base, source=self.data.source, report=self.report, trusted=trusted
        )
        if checked is None:
            return Made(group, model, None)
        found = checked.parity
        require_parity(found, self.options.limits[model.precision], base.name)
        self._note_engine(model)
        if model.variant == BASE_VARIANT and model.parity:
            # It was compared with itself: its difference from PyTorch stays on record.
            found = replace(
                model.parity,
                device=found.device,
                hardware=found.hardware,
                ms_per_slice=found.ms_per_slice,
            )
            return Made(group, replace(model, parity=found), None)
        return Made(group, replace(model, parity=found), checked.peaks)

    def _note_engine(self, model: Model) -> None:
        if model.engine:
            self.engines += [file.sha256 for file in model.files]

    def _graph(self, base: Base, precision: str, scheme: str) -> bytes:
        from rsna_lumbar.export.graph.precisions import graph_in

        slices = None
        if precision == "int8" and self.options.calibration_data:
            data = self.options.calibration_data
            slices = self.calibration(data, base.detector, self.preprocessing)
        return graph_in(precision, base.graph, scheme=scheme, calibration=slices)

    def _models(
        self,
        detector: Detector,
        again: Container[Variant],
        metrics: Mapping[Variant, tuple[float, float]],
    ) -> tuple[Model, ...]:
        """Those of the detector that stay, and those made for it; variant by variant."""
        models = [model for model in detector.models if model.variant not in again]
        for one in self.made:
            model = one.model
            if one.group == detector.group.name and model.variant not in self.left_out:
                if model.parity and model.variant in metrics:
                    parity = replace(model.parity, metric=metrics[model.variant])
                    model = replace(model, parity=parity)
                models.append(model)
        order = {model.variant: place for place, model in enumerate(models)}
        return tuple(sorted(models, key=lambda model: order[model.variant]))

    def _metrics(self, bundle: Bundle) -> dict[Variant, tuple[float, float]]:
        """Official metric by the reference and by each variant of which all models were run."""
        from rsna_lumbar.export.verification.challenge_metric import official_metric

        labels = self.data.labels
        if labels is None:
            return {}
        found: dict[Variant, dict[str, list[Peaks]]] = {}
        for one in self.made:
            if one.peaks is not None:
                by_group = found.setdefault(one.model.variant, {})
                by_group.setdefault(one.group, []).append(one.peaks)
        reference = official_metric(bundle.detectors, self.expected, labels)
        counts = {group: len(peaks) for group, peaks in self.expected.items()}
        return {
            variant: (reference, official_metric(bundle.detectors, by_group, labels))
            for variant, by_group in found.items()
            if {group: len(peaks) for group, peaks in by_group.items()} == counts
        }

    def _judge(self, metrics: Mapping[Variant, tuple[float, float]]) -> None:
        """Exclude every variant that exceeds a limit for whole variants."""
        compared = dict.fromkeys(one.model.variant for one in self.made if one.peaks is not None)
        for variant in [one for one in compared if one not in self.left_out]:
            models = [one.model for one in self.made if one.model.variant == variant]
            parities = [model.parity for model in models if model.parity]
            rows = sum(parity.rows for parity in parities)
            changed = sum(parity.changed_rows for parity in parities)
            limits = self.options.limits[variant.precision]
            reference, found = metrics.get(variant, (1.0, 1.0))  # without labels: no worse
            if changed > max(1, limits.changed * rows):
                why = f"the likeliest grade of {changed} of {rows} rows changed"
                self._leave_out(variant, f"{why} (limit {limits.changed:.1%})")
            elif not found <= reference * (1 + limits.metric):
                why = f"official metric {found:.4f} instead of {reference:.4f}"
                self._leave_out(variant, f"{why} (limit +{limits.metric:.1%})")

    def _leave_out(self, variant: Variant, why: str) -> None:
        self.left_out[variant] = why
        self.report(f"{variant} is excluded: {why}")
