"""Build a bundle from checkpoints, add formats to a bundle, or verify a bundle again.

    checkpoint --rewrite--> float32 graph -+-> verified against PyTorch             (onnx fp32)
                                           +-> precision -> format -> verified      (each pair)

Groups are processed one after another, so that only the slices of one are in memory. Everything is
made and verified in a private folder, and the manifest is written last: a failure leaves an older
bundle unchanged.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rsna_lumbar.export.bundling.candidates import BASE_VARIANT, Workshop
from rsna_lumbar.export.bundling.model_files import Base, write_model
from rsna_lumbar.export.bundling.options import BASE, ExportOptions, Pair
from rsna_lumbar.export.bundling.publish import aside_folder, move_in
from rsna_lumbar.export.formats import Built, BuiltFile, Report
from rsna_lumbar.export.verification.data import verification_data
from rsna_lumbar.export.verification.parity import expect, graph_peaks
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import (
    ANY_TARGET,
    MANIFEST,
    Bundle,
    Detector,
    Variant,
)
from rsna_lumbar.runtime.bundle.store import read_model, remove_unreferenced
from rsna_lumbar.runtime.bundle.trust import TrustedEngines, trust_engines
from rsna_lumbar.runtime.core.errors import BundleError, UsageError
from rsna_lumbar.runtime.core.labels import GROUPS, SPINAL, Group
from rsna_lumbar.runtime.core.postprocess import Calibration, Combination
from rsna_lumbar.runtime.system.machine import versions_of

if TYPE_CHECKING:
    from rsna_lumbar.export.checkpoints.sources import Source, Sources, Window

GRAPH_MADE_WITH = ("rsna-lumbar", "torch", "ultralytics", "onnx", "numpy")
MODELS_MADE_WITH = ("onnxruntime-gpu", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")
MADE_WITH = (*GRAPH_MADE_WITH, *MODELS_MADE_WITH)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A bundle as it was written, and the variants that were excluded from it."""

    bundle: Bundle
    left_out: Mapping[Variant, str]  # why


def build_bundle(
    folder: Path,
    weights: Mapping[str, Sequence[Path]],
    *,
    image_size_px: int | None,
    combination: Combination = "mean",
    window: Window | None = None,
    options: ExportOptions,
    report: Report,
) -> Outcome:
    """Export checkpoints of some or all groups into a bundle.

    Detectors of the bundle whose group has no checkpoint stay. They are verified again, and get
    the requested formats and precisions too.

    Args:
        folder: the bundle's folder; created if it does not exist.
        weights: group name -> its checkpoints; several are an ensemble. At least one group.
        image_size_px: side of the slices; None takes it from the card or the checkpoint.
        combination: how the peaks of an ensemble are combined.
        window: percentiles, for checkpoints without a card.
        report: takes a line of progress.

    Raises:
        CheckpointError: a checkpoint or card cannot be used.
        VerificationError: a float32 graph differs from PyTorch by more than rounding.
        UsageError: a requested option is not available here.
    """
    from rsna_lumbar.export.checkpoints.sources import read_sources

    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the bundle")
    pairs = options.pairs()
    on_disk = _to_keep(folder, weights)
    sources = read_sources(weights, image_size_px, combination, report, window=window, kept=on_disk)
    kept = [one for one in on_disk.detectors if not weights.get(one.group.name)] if on_disk else []
    before = _beside(sources, kept, on_disk)
    _report_groups(before, kept, report)
    trusted = TrustedEngines()
    outcome = _make(folder, before, on_disk, sources.groups, pairs, options, trusted, report)
    _report_parts(outcome.bundle, report)
    return outcome


def _to_keep(folder: Path, weights: Mapping[str, Sequence[Path]]) -> Bundle | None:
    """The bundle in the folder, if it has a group without a checkpoint."""
    if all(weights.get(group.name) for group in GROUPS) or not (folder / MANIFEST).exists():
        return None
    found = read_bundle(folder)
    return found if any(not weights.get(group.name) for group in found.groups) else None


def _beside(sources: Sources, kept: Sequence[Detector], on_disk: Bundle | None) -> Bundle:
    """New detectors, still without models, and those that stay."""
    new = [source.detector for source in sources.groups]
    if any(one.group == SPINAL for one in new):  # views were fitted to the discs of the one before
        kept = [replace(one, by_views=None) for one in kept]
    detectors = (*kept, *new)
    calibrated = any(one.in_session != Calibration() for one in kept)
    return Bundle(
        detectors=tuple(sorted(detectors, key=lambda one: GROUPS.index(one.group))),
        preprocessing=sources.preprocessing,
        calibration_aim=on_disk.calibration_aim if on_disk and calibrated else "none",
        made_with={**(on_disk.made_with if on_disk else {}), **versions_of(MADE_WITH)},
        window_from=sources.window_from,
    )


def _report_groups(bundle: Bundle, kept: Sequence[Detector], report: Report) -> None:
    if kept:
        report(f"kept from the bundle: {_listed(one.group for one in kept)}")
    lost = [one.group for one in kept if one.by_views and one not in bundle.detectors]
    if lost:
        report(
            f"{_listed(lost)}: views are no longer used, because the spinal detector is another; "
            "run rsna-train calibrate --views geometry"
        )
    if bundle.calibration_aim != "none":
        new = [group for group in bundle.groups if group not in {one.group for one in kept}]
        report(f"not calibrated, unlike the other groups: {_listed(new)}; run rsna-train calibrate")
    if bundle.missing_groups:
        report(
            f"no checkpoint for {_listed(bundle.missing_groups)}: rsna-run will write no rows for "
            "them; they can be added later"
        )


def _report_parts(bundle: Bundle, report: Report) -> None:
    """Report variants that some groups lack: they cannot be used."""
    for variant in dict.fromkeys(model.variant for _, model in bundle.models):
        if variant not in bundle.variants:
            have = [d.group for d in bundle.detectors if variant in {m.variant for m in d.models}]
            report(
                f"{variant} is not used, because only {_listed(have)} has it; add it to the other "
                "groups with --format and --precision"
            )


def _listed(groups: Iterable[Group]) -> str:
    return ", ".join(group.name for group in groups)


def extend_bundle(folder: Path, *, options: ExportOptions, report: Report) -> Outcome:
    """Add formats and precisions to a bundle, made from its float32 graphs.

    Its calibration stays. New models replace those of the same format, precision and target, which
    are also removed if the new ones exceed the limits; but they stay if a builder fails. All other
    models are verified and timed again, as by :func:`verify_bundle`. If all builders fail, the
    bundle is not changed.

    Raises:
        BundleError: the bundle cannot be read or trusted.
        UsageError: a requested option is not available here.
    """
    pairs = options.pairs()
    if not pairs:
        raise UsageError(
            f"every bundle has {' '.join(BASE)}; name another --format or --precision to add, or "
            "the checkpoints of a group to add or replace"
        )
    on_disk = read_bundle(folder)
    before = replace(on_disk, made_with={**on_disk.made_with, **versions_of(MADE_WITH)})
    return _make(folder, before, on_disk, (), pairs, options, TrustedEngines(), report)


def verify_bundle(folder: Path, *, options: ExportOptions, trust: bool, report: Report) -> Outcome:
    """Verify every model that this machine can run, and time it here.

    Models that exceed the limits are removed. The reference is the bundle's own float32 graph on
    the CPU; its recorded difference from PyTorch stays.

    Args:
        trust: run engines that were not built or accepted here, and accept them from then on.

    Raises:
        BundleError: the bundle cannot be read or trusted.
        VerificationError: the float32 graph itself exceeds the limits on this machine.
    """
    on_disk = read_bundle(folder)
    trusted = None if trust else TrustedEngines()
    return _make(folder, on_disk, on_disk, (), (), options, trusted, report)


def _make(
    folder: Path,
    before: Bundle,
    on_disk: Bundle | None,
    sources: Sequence[Source],
    pairs: Sequence[Pair],
    options: ExportOptions,
    trusted: Container[str] | None,
    report: Report,
) -> Outcome:
    """Make the models of new detectors; verify, time and extend all others in the same run.

    Args:
        before: the new bundle; its new detectors, those of ``sources``, have no models yet.
        on_disk: the bundle in the folder that it is made from, if any.
        trusted: SHA-256 of the engines that may be opened; None trusts all.
    """
    data = verification_data(
        options.verify_data, options.verify_labels, options.verify_studies, before.groups
    )
    with aside_folder(folder) as aside:
        _require_unchanged(folder, on_disk)  # before hours of building, and again after them
        work = Workshop(aside, options, data, before.preprocessing, report)
        new = {source.detector.group: source for source in sources}
        for detector in before.detectors:
            if detector.group in new:
                work.process(_bases_of(new[detector.group], work), aside, pairs)
            else:
                work.process(_bases_in(folder, detector, work), folder, pairs, trusted=trusted)
        if on_disk is not None and not sources and work.made_nothing(pairs):
            return Outcome(on_disk, dict(work.left_out))
        bundle = work.bundle(before)
        _require_unchanged(folder, on_disk)
        trust_engines(work.engines)
        move_in(aside, folder, bundle)
        remove_unreferenced(folder, bundle)
    return Outcome(bundle, dict(work.left_out))


def _require_unchanged(folder: Path, on_disk: Bundle | None) -> None:
    if on_disk is not None and read_bundle(folder) != on_disk:
        raise BundleError(f"{folder} was changed meanwhile, perhaps calibrated; start again")


def _bases_of(source: Source, work: Workshop) -> Iterator[Base]:
    """The float32 graph of each checkpoint of a group, written aside, and PyTorch's answers."""
    from rsna_lumbar.export.checkpoints.reference import reference_peaks
    from rsna_lumbar.export.graph.rewrite import rewrite
    from rsna_lumbar.export.graph.score_graph import export_score_graph

    detector = source.detector
    sets = work.data.sets(detector, work.preprocessing)
    for checkpoint in source.checkpoints:
        name = f"{detector.group.name}: {checkpoint.path.name}"
        work.report(f"{name}: exporting at {detector.size_px} px")
        graph = export_score_graph(
            rewrite(checkpoint),
            detector.group,
            detector.size_px,
            preprocessing=work.preprocessing,
            versions=versions_of(GRAPH_MADE_WITH),
        )
        built = Built((BuiltFile(".onnx", graph),), ANY_TARGET, None)
        model = write_model(work.aside, built, BASE, detector, checkpoint.sha256)
        peaks = partial(reference_peaks, checkpoint)
        expected = expect(peaks, sets, reference="pytorch", name=name, report=work.report)
        yield Base(name, detector, graph, model, sets, expected)


def _bases_in(folder: Path, detector: Detector, work: Workshop) -> Iterator[Base]:
    """The float32 graphs of a group of a bundle, and their answers on the CPU."""
    sets = work.data.sets(detector, work.preprocessing)
    bases = [model for model in detector.models if model.variant == BASE_VARIANT and model.parity]
    if {one.weights_sha256 for one in bases} != {one.weights_sha256 for one in detector.models}:
        raise BundleError(
            f"{folder} lacks a verified float32 graph of {detector.group.name} to compare others "
            "with; build it again from the checkpoints"
        )
    for model in bases:
        name = f"{detector.group.name}: {model.files[0].name}"
        (graph,) = read_model(folder, model)
        with graph_peaks(folder, model, detector) as peaks:
            expected = expect(peaks, sets, reference="fp32 graph", name=name, report=work.report)
        yield Base(name, detector, graph, model, sets, expected)
