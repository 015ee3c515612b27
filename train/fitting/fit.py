"""Prepared data set -> a YOLOv8 detector and its card.

    OUT/<group>.pt        weights (float16, as ultralytics saves them), no paths inside
    OUT/<group>.json      card: prior rows, image size, preprocessing, settings, versions, data hash
    OUT/<group>/          results.csv (a row per epoch) and curves.png

The card also has the data set's card, the epochs after which the training was resumed, and the
metrics of the last validation, overall and by class. The same call again skips finished trainings
and resumes interrupted ones (:mod:`rsna_lumbar.train.fitting.resume`).

The weights are the exponential moving average after the last epoch, not those of the "best" epoch.
The learning rate is lowest at the end, and the fitness that would choose an epoch is the mean
average precision of boxes on few validation images, which has little to do with the metric.

Flips are off by default, and always safe for sides (``flips.py``). Shift and scale keep sides and
levels. The default augmentation is lighter than the method's; which is better was not measured.

The image size is that of the data set. Another size would interpolate its squares a second time,
and could shrink boxes below their least size.

On a CPU the groups are trained side by side, with one thread each: two threads took twice the
processor time for the same work (batch 16, 160 px, YOLOv8 at an eighth of its width, two cores),
and up to sixty times as much if other processes were busy too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import Group
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
from rsna_lumbar.train.dataset.data_card import data_sha256, read_card
from rsna_lumbar.train.fitting.detector import DetectorJob, drop_caches, train_detector
from rsna_lumbar.train.fitting.parallel import run_side_by_side, watched
from rsna_lumbar.train.fitting.resume import (
    Identity,
    TrainingFiles,
    clean,
    is_finished,
    training_files,
)

DEMO_MODEL = "demo"
TRAINER = "rsna_lumbar.train.fitting.trainer.LumbarTrainer"

# By ultralytics' names. The last epochs (close_mosaic) are without mosaics: four slices per image.
AUGMENTATIONS: Mapping[str, Mapping[str, float]] = {
    "light": {"mosaic": 0.0, "close_mosaic": 0, "translate": 0.1, "scale": 0.2},
    # ultralytics' defaults for YOLOv8, which the method used, without flips. Their changes of
    # colour have no effect on images of one channel.
    "method": {"mosaic": 1.0, "close_mosaic": 10, "translate": 0.1, "scale": 0.5},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """The options; all other settings are fixed below, or ultralytics' defaults."""

    model: str = "yolov8n.yaml"  # random weights; or "demo", another .yaml, or a .pt to start from
    epochs: int = 50
    batch_size: int = 16
    learning_rate: float = 0.002  # of AdamW; it falls to a hundredth
    augmentation: str = "light"  # a name of AUGMENTATIONS
    axial_flip: float = 0.0  # share of axial slices mirrored, with left and right exchanged
    repeat_rare: int = 1  # uses per epoch of a slice with a moderate or severe label
    seed: int = 0
    device: str = "auto"  # or "cpu", "0", "0,1"
    workers: int = 8  # loading processes; on a CPU, ultralytics loads in the main process
    jobs: int = 0  # trainings at the same time; 0: one per core on a CPU, one on a GPU
    threads: int = 1  # of each training, on a CPU


@dataclass(frozen=True, slots=True)
class Fitted:
    """The result for one group."""

    files: TrainingFiles
    already: bool  # finished by an earlier call


def fit(
    data: Path,
    groups: Sequence[Group],
    out: Path,
    options: FitOptions,
    *,
    progress: Callable[[str, int], None] = lambda *_: None,
    trainer: str = TRAINER,
) -> list[Fitted]:
    """Train one detector per group, or resume where an earlier call with these options stopped.

    Args:
        data: folder made by ``rsna-train prepare``.
        out: folder of the results; results of other groups in it stay.
        progress: called with the group's name and the number of finished epochs.
        trainer: importable name of a subclass of LumbarTrainer, for experiments.

    Raises:
        DataError: a group's data set is missing, unfinished or without images.
        UsageError: ultralytics is not installed, the model or device does not exist, or ``out``
            contains a training with other settings or of other data.
    """
    if out.resolve() == data.resolve():
        raise UsageError(f"{out} is the data set; name another folder for the results")
    cards = {group: read_card(data / group.name, group) for group in groups}
    files = {group: training_files(out, group.name) for group in groups}
    identities = {g: _identity(data / g.name, g, options, trainer) for g in groups}
    finished = {group: is_finished(files[group], identities[group]) for group in groups}
    left = [group for group in groups if not finished[group]]
    if left:  # importing PyTorch takes seconds, in vain if all is finished
        prepare_third_party("train")
        _check_model(options.model)
        device = _device(options)
        jobs = [
            DetectorJob(
                data=data / group.name,
                files=files[group],
                card=cards[group],
                identity=identities[group],
                settings=settings_of(group, options, device),
                repeat_rare=options.repeat_rare,
                threads=options.threads if device == "cpu" else None,
                trainer=trainer,
            )
            for group in left
        ]
        # The largest first, so that no core stays idle for long at the end.
        jobs.sort(key=lambda job: -job.card["images"]["train"])
        at_a_time = options.jobs or (usable_cores() if device == "cpu" else 1)
        tables = {job.files.group: (job.files.run_results, job.files.results) for job in jobs}
        with watched(tables, progress):
            run_side_by_side(train_detector, jobs, at_a_time)
    for group in groups:  # also for finished ones: a kill may have prevented it
        clean(files[group])
        drop_caches(data / group.name)
    return [Fitted(files[group], finished[group]) for group in groups]


def _identity(data: Path, group: Group, options: FitOptions, trainer: str) -> Identity:
    """The options that concern this group, and hashes of the files that they name."""
    model = Path(_model(options.model))
    settings = {
        **asdict(options),
        "model": Path(options.model).name,  # no folder of this machine
        "model_sha256": sha256_of(model) if model.is_file() else None,  # None: ultralytics' own
        "axial_flip": _flip(group, options),
        "trainer": trainer,
    }
    return Identity(settings, data_sha256(data))


def _flip(group: Group, options: FitOptions) -> float:
    """A flip exchanges left and right of axial slices, but front and back of sagittal ones."""
    return options.axial_flip if group.plane == "axial" else 0.0


def settings_of(group: Group, options: FitOptions, device: str) -> dict[str, Any]:
    """Settings by ultralytics' names; all others have its defaults."""
    return {
        "task": "detect",
        "mode": "train",
        "model": _model(options.model),
        "device": device,
        "workers": options.workers,
        "epochs": options.epochs,
        "patience": options.epochs,  # never stop early: see the module's docstring
        "batch": options.batch_size,
        "nbs": options.batch_size,  # a step after every batch
        "optimizer": "AdamW",
        "lr0": options.learning_rate,
        "warmup_bias_lr": 0.0,  # ultralytics' 0.1 is for SGD
        "seed": options.seed,
        "deterministic": True,
        "amp": device != "cpu",
        "val": True,  # each epoch, for the curves: an eleventh of the time, with 1 slice in 5
        "plots": False,
        "exist_ok": True,
        **_augmentation(options),
        "fliplr": _flip(group, options),
        "flipud": 0.0,
        "augmentations": [],  # otherwise albumentations, if installed, would blur some slices
        "hsv_h": 0.0,
        "hsv_s": 0.0,
    }


def _augmentation(options: FitOptions) -> dict[str, float]:
    """Mosaics end at most half of the epochs before the end."""
    if options.augmentation not in AUGMENTATIONS:
        raise UsageError(f"{options.augmentation!r} is not one of {', '.join(AUGMENTATIONS)}")
    chosen = dict(AUGMENTATIONS[options.augmentation])
    chosen["close_mosaic"] = min(chosen["close_mosaic"], options.epochs // 2)
    return chosen


def _model(name: str) -> str:
    return str(Path(__file__).with_name("yolov8-demo.yaml")) if name == DEMO_MODEL else name


def _check_model(name: str) -> None:
    """Check the model first: ultralytics would search for a missing file on the internet."""
    from ultralytics.nn.tasks import yaml_model_load

    if name.endswith(".pt") and not Path(name).is_file():
        raise UsageError(f"{name} does not exist; weights are never downloaded")
    if name != DEMO_MODEL and not name.endswith((".pt", ".yaml", ".yml")):
        raise UsageError(f"{name!r} is not a model: name {DEMO_MODEL}, a .yaml or a .pt file")
    if not name.endswith(".pt"):
        try:
            yaml_model_load(_model(name))  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{name} is neither a file nor a model of ultralytics, such as yolov8s.yaml"
            ) from error


def _device(options: FitOptions) -> str:
    import torch

    name = options.device
    if name == "auto":
        return "0" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"no device {name!r}: torch sees no GPU; use --device cpu")
    count, batch = len(name.split(",")), options.batch_size
    if count > 1 and find_spec("cloudpickle") is None:  # ultralytics would install it
        raise UsageError("several GPUs need another library: pip install cloudpickle")
    if batch % count:  # ultralytics would round down the share of each GPU
        raise UsageError(f"--batch-size {batch} cannot be split evenly between {count} GPUs")
    return name
