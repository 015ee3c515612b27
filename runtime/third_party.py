"""Optional libraries: present, silent and offline before anything imports them.

The runtime imports none of them; training, export and benchmarks call this first. ultralytics
reads its switches from the environment when it is imported, and keeps settings in a folder of the
user's. Here it gets a settings folder of its own that goes when the process ends; no telemetry,
no look for updates, no download, no installing of packages, no experiment trackers, no chatter.
A checkpoint is a pickle: it is loaded through ultralytics' list of allowed classes, unless the
environment says ``ULTRALYTICS_SAFE_LOAD=false`` for a file that you trust.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib import import_module

from rsna_lumbar.runtime.errors import UsageError

ALWAYS = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
UNLESS_SET = {"YOLO_VERBOSE": "false", "ULTRALYTICS_SAFE_LOAD": "true"}
UNLESS_SET_OF = {
    # Threads of OpenMP that spin while they wait made a training on a shared machine 60 times
    # slower. Only there: benchmarks time PyTorch as it comes.
    "train": {"OMP_WAIT_POLICY": "PASSIVE"},
}
TRACKERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
NEEDED = {
    "train": ("torch", "ultralytics"),
    "export": ("torch", "onnx", "ultralytics"),
    "convert": ("onnx",),
    "bench": ("torch", "onnx", "ultralytics"),
}


def prepare_third_party(extra: str) -> None:
    """Set the switches and import what an extra of this package brings.

    Args:
        extra: ``train``, ``export`` or ``bench``; ``convert`` for the part of ``export`` that makes
            one model file from another, without a checkpoint.

    Raises:
        UsageError: one of its libraries is not installed.
    """
    os.environ.update(ALWAYS)
    for name, value in {**UNLESS_SET, **UNLESS_SET_OF.get(extra, {})}.items():
        os.environ.setdefault(name, value)
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="rsna-lumbar-")
        os.environ["YOLO_CONFIG_DIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        for library in NEEDED[extra]:
            import_module(library)
        if "ultralytics" in NEEDED[extra]:
            _silence_ultralytics()
    except ImportError as error:
        name = "export" if extra == "convert" else extra
        raise UsageError(
            f"{error.name} is not installed: pip install 'rsna-lumbar[{name}]'"
        ) from error


def _silence_ultralytics() -> None:
    """By dict's own update: in memory only, the file of a user who has one stays as it is."""
    settings = import_module("ultralytics.utils").SETTINGS
    dict.update(settings, {"sync": False, **dict.fromkeys(TRACKERS, False)})
