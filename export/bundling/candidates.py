"""One export at work: models made and verified aside, what is left out, and the bundle they make.

A variant is a whole or nothing: where one detector is over the limits, the models of all groups are
left out. The official metric joins the groups, so it is judged at the end. Where a builder fails,
nothing is known of the models that the bundle has of its variant: they stay.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.bundling.model_files import try_model, write_model
from rsna_lumbar.export.bundling.options import BASE, ExportOptions, Pair
from rsna_lumbar.export.bundling.publish import BUILD_LOG
from rsna_lumbar.export.formats import BACKEND_OF, Built, Report, load_format
from rsna_lumbar.export.verification.data import Sets, VerificationData, calibration_slices
from rsna_lumbar.export.verification.parity import Expected, Peaks, require_parity
from rsna_lumbar.runtime.bundle.records import ANY_TARGET, Bundle, Detector, Model, Parity, Variant
from rsna_lumbar.runtime.core.errors import BuildError, VerificationError
from rsna_lumbar.runtime.core.preprocess import Preprocessing

BASE_VARIANT = Variant(BACKEND_OF[BASE[0]], ANY_TARGET, BASE[1])


@dataclass(frozen=True, eq=False, slots=True)
class Base:
    """One detector's float32 graph, and what is expected of everything that is made from it."""

    name: str  # for people
    graph: bytes
    model: Model
    expected: Expected


@dataclass(eq=False, slots=True)
class Workshop:
    """Models made so far, by group, and the peaks that they gave on the verification studies."""

    aside: Path
    options: ExportOptions
    data: VerificationData
    preprocessing: Preprocessing
    report: Report
    made: dict[str, list[Model]] = field(default_factory=dict)
    left_out: dict[Variant, str] = field(default_factory=dict)
    not_built: set[Variant] = field(default_factory=set)  # those of them whose builder failed
    expected: dict[str, list[Peaks]] = field(default_factory=dict)  # one a checkpoint
    found: dict[Variant, dict[str, list[Peaks]]] = field(default_factory=dict)
    calibration: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    engines: list[str] = field(default_factory=list)  # SHA-256 of those built, or run, here

    def expect(self, base: Base, detector: Detector) -> None:
        """Note what the reference answers."""
        self.expected.setdefault(detector.group.name, []).append(base.expected.peaks)

    def add(
        self,
        folder: Path,
        model: Model,
        base: Base,
        detector: Detector,
        sets: Sets,
        *,
        trusted: Container[str] | None = None,
    ) -> None:
        """Run a model where it can run, hold it to the limits, and keep it or leave it out.

        Raises:
            VerificationError: a float32 graph is over the limits: nothing can be made of it.
        """
        if model.variant in self.left_out:
            return
        try:
            kept = self._tried(folder, model, base, detector, sets, trusted)
        except VerificationError as error:
            if model.variant == BASE_VARIANT:
                raise
            self._leave_out(model.variant, str(error))
        else:
            self.made.setdefault(detector.group.name, []).append(kept)

    def _note_engine(self, model: Model) -> None:
        if model.engine:
            self.engines += [file.sha256 for file in model.files]

    def add_pairs(self, base: Base, detector: Detector, sets: Sets, pairs: Sequence[Pair]) -> None:
        """Make, verify and keep a model for every pair of format and precision."""
        graphs: dict[tuple[str, str], bytes] = {}
        for name, precision in pairs:
            failed = {(variant.backend, variant.precision) for variant in self.left_out}
            if (BACKEND_OF[name], precision) in failed:
                continue
            self.report(f"{base.name}: {name} {precision}")
            target = load_format(name)
            scheme = (precision, target.INT8_SCHEME)
            if scheme not in graphs:
                graphs[scheme] = self._graph(base, detector, *scheme)
            try:
                built = self._built((name, precision), graphs[scheme])
            except BuildError as error:
                variant = Variant(BACKEND_OF[name], error.target, precision)
                self.not_built.add(variant)
                again = f"ask for it again with --format {name} --precision {precision}"
                self._leave_out(variant, f"{base.name}: {error}; {again}")
                continue
            model = write_model(
                self.aside, built, (name, precision), detector, base.model.weights_sha256
            )
            self._note_engine(model)
            self.add(self.aside, model, base, detector, sets)

    def _built(self, pair: Pair, graph: bytes) -> Built:
        name, precision = pair
        options = replace(self.options.build, log=self.aside / BUILD_LOG)
        return load_format(name).build(name, graph, precision, options, self.report)

    def made_nothing(self, pairs: Sequence[Pair]) -> bool:
        """Whether the builders of all of them failed, and nothing else is to be changed."""
        failed = {(one.backend, one.precision) for one in self.not_built}
        asked = {(BACKEND_OF[name], precision) for name, precision in pairs}
        return bool(failed) and failed == asked and self.left_out.keys() == self.not_built

    def bundle(self, before: Bundle) -> Bundle:
        """``before`` with the models that were made, in place of those of the same variants.

        A variant that was left out is not in it, also where ``before`` has it, unless it could not
        be built.

        Raises:
            VerificationError: the float32 graphs themselves are over the limit of the metric.
        """
        metrics = self._metrics(before)
        self._judge(metrics)
        if BASE_VARIANT in self.left_out:
            raise VerificationError(self.left_out[BASE_VARIANT])
        again = {model.variant for models in self.made.values() for model in models}
        again |= self.left_out.keys()
        again -= self.not_built
        return replace(
            before,
            detectors=tuple(
                replace(one, models=self._models(one, again, metrics)) for one in before.detectors
            ),
        )

    def _tried(
        self,
        folder: Path,
        model: Model,
        base: Base,
        detector: Detector,
        sets: Sets,
        trusted: Container[str] | None,
    ) -> Model:
        """The model with its parity, or unverified; its answers are noted."""
        checked = try_model(
            folder,
            model,
            detector,
            sets,
            base.expected,
            source=self.data.source,
            report=self.report,
            trusted=trusted,
        )
        if checked is None:
            return model
        require_parity(checked.parity, self.options.limits[model.precision], base.name)
        self._note_engine(model)
        if model.variant == BASE_VARIANT and model.parity:
            return replace(model, parity=_timed_again(model.parity, checked.parity))
        of_groups = self.found.setdefault(model.variant, {})
        of_groups.setdefault(detector.group.name, []).append(checked.peaks)
        return replace(model, parity=checked.parity)

    def _models(
        self,
        detector: Detector,
        again: Container[Variant],
        metrics: Mapping[Variant, tuple[float, float]],
    ) -> tuple[Model, ...]:
        kept = [model for model in detector.models if model.variant not in again]
        made = [
            model
            if model.parity is None or model.variant not in metrics
            else replace(model, parity=replace(model.parity, metric=metrics[model.variant]))
            for model in self.made.get(detector.group.name, ())
            if model.variant not in self.left_out
        ]
        order = {model.variant: place for place, model in enumerate((*kept, *made))}
        return tuple(sorted((*kept, *made), key=lambda model: order[model.variant]))

    def _graph(self, base: Base, detector: Detector, precision: str, scheme: str) -> bytes:
        from rsna_lumbar.export.graph.precisions import graph_in

        calibration = self._calibration_of(detector) if precision == "int8" else None
        return graph_in(precision, base.graph, scheme=scheme, calibration=calibration)

    def _calibration_of(self, detector: Detector) -> NDArray[np.uint8]:
        """Slices to calibrate a group on, those of one group at a time."""
        if detector.group.name not in self.calibration:
            assert self.options.calibration_data, "the options were checked"
            self.calibration = {
                detector.group.name: calibration_slices(
                    self.options.calibration_data, detector, self.preprocessing
                )
            }
        return self.calibration[detector.group.name]

    def _metrics(self, bundle: Bundle) -> dict[Variant, tuple[float, float]]:
        """The official metric, by the reference and by each variant that was run whole."""
        from rsna_lumbar.export.verification.challenge_metric import official_metric

        labels = self.data.labels
        if labels is None:
            return {}
        reference = official_metric(bundle.detectors, self.expected, labels)
        counts = {name: len(peaks) for name, peaks in self.expected.items()}
        metrics = {}
        for variant, found in self.found.items():
            if {name: len(peaks) for name, peaks in found.items()} != counts:
                continue
            metrics[variant] = reference, official_metric(bundle.detectors, found, labels)
        return metrics

    def _judge(self, metrics: Mapping[Variant, tuple[float, float]]) -> None:
        """Hold every variant that was run, and not left out yet, to the limits of a whole one."""
        for variant in [one for one in self.found if one not in self.left_out]:
            parities = [
                model.parity
                for models in self.made.values()
                for model in models
                if model.variant == variant and model.parity
            ]
            rows = sum(parity.rows for parity in parities)
            changed = sum(parity.changed_rows for parity in parities)
            limits = self.options.limits[variant.precision]
            reference, found = metrics.get(variant, (1.0, 1.0))  # unlabelled: no worse
            if changed > max(1, limits.changed * rows):
                self._leave_out(
                    variant,
                    f"{changed} of {rows} rows have another likeliest grade "
                    f"(limit {limits.changed:.1%})",
                )
            elif not found <= reference * (1 + limits.metric):
                self._leave_out(
                    variant,
                    f"official metric {found:.4f} against {reference:.4f} "
                    f"(limit +{limits.metric:.1%})",
                )

    def _leave_out(self, variant: Variant, why: str) -> None:
        self.left_out[variant] = why
        self.report(f"{variant} is left out: {why}")


def _timed_again(old: Parity, found: Parity) -> Parity:
    """Of a float32 graph that was compared with itself: what it differed from PyTorch stays."""
    return replace(
        old, device=found.device, hardware=found.hardware, ms_per_slice=found.ms_per_slice
    )
