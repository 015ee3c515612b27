"""Checkpoints -> a verified bundle; further formats of a bundle; a bundle verified again.

    checkpoint --rewrite--> float32 graph -+-> verified against PyTorch             (onnx fp32)
                                           +-> precision -> format -> verified      (each pair)

Groups come one after the other, so that the slices of one are held at a time. Everything is made
and verified aside, and the manifest comes last: a failure leaves an older bundle as it was.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rsna_lumbar.export.bundling.candidates import BASE_VARIANT, Base, Workshop
from rsna_lumbar.export.bundling.model_files import write_model
from rsna_lumbar.export.bundling.options import BASE, ExportOptions, Pair
from rsna_lumbar.export.bundling.publish import aside_folder, move_in
from rsna_lumbar.export.formats import BACKEND_OF, Built, BuiltFile, Report
from rsna_lumbar.export.verification.data import Sets, VerificationData, verification_data
from rsna_lumbar.export.verification.parity import expect, graph_peaks, pytorch_peaks
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import (
    ANY_TARGET,
    MANIFEST,
    Bundle,
    Detector,
    Model,
    Variant,
)
from rsna_lumbar.runtime.bundle.store import read_model, remove_unreferenced
from rsna_lumbar.runtime.bundle.trust import TrustedEngines, trust_engines
from rsna_lumbar.runtime.core.errors import BundleError, UsageError
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.core.postprocess import Calibration, Combination
from rsna_lumbar.runtime.system.machine import versions_of

if TYPE_CHECKING:
    from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint
    from rsna_lumbar.export.checkpoints.sources import Source, Sources, Window

GRAPH_MADE_WITH = ("rsna-lumbar", "torch", "ultralytics", "onnx", "numpy")
MODELS_MADE_WITH = ("onnxruntime-gpu", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")
MADE_WITH = (*GRAPH_MADE_WITH, *MODELS_MADE_WITH)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A bundle as it was written, and the variants that were left out of it."""

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
    """Export checkpoints into a bundle: those of all its groups, or of some.

    Detectors of groups without a checkpoint stay where the bundle has them, are verified again,
    and get the formats and precisions that are asked for, too.

    Args:
        folder: of the bundle; made where it is missing.
        weights: group name -> its checkpoints, one or, for an ensemble, more; at least one group.
        image_size_px: side of the slices; None takes it from the card or the checkpoint.
        combination: of the peaks of an ensemble's detectors.
        window: percentiles, for checkpoints without a card.
        options: formats, precisions, data and limits.
        report: takes a line of progress.

    Raises:
        CheckpointError: a checkpoint or card cannot be used.
        VerificationError: a float32 graph differs from PyTorch by more than rounding.
        UsageError: something that was asked for cannot be had here.
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
    data = _data(options, before.groups)
    with aside_folder(folder) as aside:
        work = Workshop(aside, options, data, before.preprocessing, report)
        for source in sources.groups:
            _export_group(source, work, pairs)
        for detector in kept:
            _work_on_group(folder, detector, work, pairs, TrustedEngines())
        outcome = _put_in_place(folder, work, before, on_disk=on_disk)
    _report_parts(outcome.bundle, report)
    return outcome


def _export_group(source: Source, work: Workshop, pairs: Sequence[Pair]) -> None:
    """Make all that is asked for of the checkpoints of a group."""
    sets = work.data.sets(source.detector, work.preprocessing)
    for checkpoint in source.checkpoints:
        base = _base_of(checkpoint, source.detector, sets, work)
        work.expect(base, source.detector)
        work.add(work.aside, base.model, base, source.detector, sets)
        work.add_pairs(base, source.detector, sets, pairs)


def _to_keep(folder: Path, weights: Mapping[str, Sequence[Path]]) -> Bundle | None:
    """The bundle that is there, if it has a group that no checkpoint is given for."""
    if all(weights.get(group.name) for group in GROUPS) or not (folder / MANIFEST).exists():
        return None
    found = read_bundle(folder)
    return found if any(not weights.get(group.name) for group in found.groups) else None


def _beside(sources: Sources, kept: Sequence[Detector], on_disk: Bundle | None) -> Bundle:
    """New detectors, still without models, beside those that stay."""
    found = {one.group: one for one in (*kept, *(source.detector for source in sources.groups))}
    versions = versions_of(MADE_WITH)
    return Bundle(
        detectors=tuple(found[group] for group in GROUPS if group in found),
        preprocessing=sources.preprocessing,
        calibration_aim=_aim(kept, on_disk),
        made_with={**on_disk.made_with, **versions} if on_disk else versions,
        window_from=sources.window_from,
    )


def _aim(kept: Sequence[Detector], on_disk: Bundle | None) -> str:
    calibrated = any(one.calibration != Calibration() for one in kept)
    return on_disk.calibration_aim if on_disk and calibrated else "none"


def _report_groups(bundle: Bundle, kept: Sequence[Detector], report: Report) -> None:
    if kept:
        report(f"kept as the bundle has them: {_listed(one.group for one in kept)}")
    if bundle.calibration_aim != "none":
        new = [group for group in bundle.groups if group not in {one.group for one in kept}]
        report(f"not calibrated, other than the rest: {_listed(new)}; run rsna-train calibrate")
    if bundle.missing_groups:
        report(
            f"no checkpoint of {_listed(bundle.missing_groups)}: rsna-run writes no rows of them; "
            "they can be added to the bundle later"
        )


def _report_parts(bundle: Bundle, report: Report) -> None:
    """Name variants that not all groups have, which cannot be run."""
    whole = bundle.variants
    for variant in dict.fromkeys(model.variant for _, model in bundle.models):
        if variant not in whole:
            have = [d.group for d in bundle.detectors if variant in {m.variant for m in d.models}]
            report(
                f"{variant} is there of {_listed(have)} only and is not used; add it to the others "
                "with --format and --precision"
            )


def _listed(groups: Iterable[Group]) -> str:
    return ", ".join(group.name for group in groups)


def extend_bundle(folder: Path, *, options: ExportOptions, report: Report) -> Outcome:
    """Add formats and precisions to a bundle, made from the float32 graphs in it.

    Its calibration stays. Models that are there already in the same format, precision and target
    are replaced, and left out where the new ones are over the limits; where a builder fails, they
    stay. The others are verified and timed again, as by :func:`verify_bundle`. Where the builders
    of all fail, the bundle is not touched.

    Raises:
        BundleError: the bundle cannot be read or trusted.
        UsageError: something that was asked for cannot be had here.
    """
    pairs = options.pairs()
    if not pairs:
        raise UsageError(
            f"{' '.join(BASE)} is in every bundle; name another --format or --precision to add, "
            "or the checkpoints of a group to add or to build anew"
        )
    return _work_on(folder, pairs, options, trust=False, report=report)


def verify_bundle(folder: Path, *, options: ExportOptions, trust: bool, report: Report) -> Outcome:
    """Verify every model that this machine can run, and time it here.

    What is over the limits leaves the bundle. The reference is the bundle's own float32 graph on
    the CPU; how far that was from PyTorch when it was made stays on record.

    Args:
        folder: of the bundle.
        options: data and limits.
        trust: run engines that were not built or accepted here, and accept them from then on.
        report: takes a line of progress.

    Raises:
        BundleError: the bundle cannot be read or trusted.
        VerificationError: the float32 graph itself is over the limits on this machine.
    """
    return _work_on(folder, (), options, trust=trust, report=report)


def _work_on(
    folder: Path, pairs: Sequence[Pair], options: ExportOptions, *, trust: bool, report: Report
) -> Outcome:
    """Verify and time what a bundle has, and add to it: all times are of one run, to compare."""
    data = _data(options, read_bundle(folder).groups)  # refuse before a folder is made in it
    trusted = None if trust else TrustedEngines()
    with aside_folder(folder) as aside:
        bundle = read_bundle(folder)
        work = Workshop(aside, options, data, bundle.preprocessing, report)
        for detector in bundle.detectors:
            _work_on_group(folder, detector, work, pairs, trusted)
        if work.made_nothing(pairs):
            return Outcome(bundle, dict(work.left_out))
        versions = {**bundle.made_with, **(versions_of(MADE_WITH) if pairs else {})}
        made = replace(bundle, made_with=versions)
        return _put_in_place(folder, work, made, on_disk=bundle)


def _work_on_group(
    folder: Path,
    detector: Detector,
    work: Workshop,
    pairs: Sequence[Pair],
    trusted: Container[str] | None,
) -> None:
    """Verify the models of a group in a bundle again, and make what is asked for beside them."""
    sets = work.data.sets(detector, work.preprocessing)
    for base in _bases_in(folder, detector, sets, work):
        work.expect(base, detector)
        for model in detector.models:
            if model.weights_sha256 != base.model.weights_sha256 or replaced(model, pairs):
                continue
            work.report(f"{base.name}: {model.variant}")
            work.add(folder, model, base, detector, sets, trusted=trusted)
        work.add_pairs(base, detector, sets, pairs)


def replaced(model: Model, pairs: Sequence[Pair]) -> bool:
    """Whether a model is about to be made again; engines for other GPUs stay as they are."""
    return any(
        (model.backend, model.precision) == (BACKEND_OF[name], precision)
        for name, precision in pairs
    )


def _data(options: ExportOptions, groups: Sequence[Group]) -> VerificationData:
    return verification_data(
        options.verify_data, options.verify_labels, options.verify_studies, groups
    )


def _base_of(checkpoint: Checkpoint, detector: Detector, sets: Sets, work: Workshop) -> Base:
    """The float32 graph of a checkpoint, written aside, and PyTorch's answers."""
    from rsna_lumbar.export.graph.rewrite import rewrite
    from rsna_lumbar.export.graph.score_graph import export_score_graph

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
    work.report(f"{name}: verifying on {sum(map(len, sets.values()))} slices")
    expected = expect(
        pytorch_peaks(checkpoint), sets, reference="pytorch", name=name, report=work.report
    )
    return Base(name, graph, model, expected)


def _bases_in(folder: Path, detector: Detector, sets: Sets, work: Workshop) -> Iterator[Base]:
    """The float32 graphs of a group in a bundle, and their answers on the CPU."""
    bases = [model for model in detector.models if model.variant == BASE_VARIANT and model.parity]
    if {one.weights_sha256 for one in bases} != {one.weights_sha256 for one in detector.models}:
        raise BundleError(
            f"{folder} lacks a verified float32 graph of {detector.group.name} to hold others to; "
            "build it anew from the checkpoints"
        )
    for model in bases:
        name = f"{detector.group.name}: {model.files[0].name}"
        (graph,) = read_model(folder, model)
        with graph_peaks(folder, model, detector) as peaks:
            expected = expect(peaks, sets, reference="fp32 graph", name=name, report=work.report)
        yield Base(name, graph, model, expected)


def _put_in_place(
    folder: Path, work: Workshop, before: Bundle, *, on_disk: Bundle | None = None
) -> Outcome:
    bundle = work.bundle(before)
    if on_disk is not None and read_bundle(folder) != on_disk:
        raise BundleError(f"{folder} was changed meanwhile, perhaps calibrated; start again")
    trust_engines(work.engines)
    move_in(work.aside, folder, bundle)
    remove_unreferenced(folder, bundle)
    return Outcome(bundle, dict(work.left_out))
