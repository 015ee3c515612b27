"""Check that optional libraries are installed, and make them silent and offline before import.

The runtime imports none of them; training, export and benchmarks call this first. ultralytics reads
its switches from the environment when it is imported: no telemetry, no update check, no download,
no package installation, no experiment trackers, no log output. These libraries keep files between
runs (settings, a list of fonts, compiled code) in the user's folders, or leave them in the
temporary folder. Here they use a private folder that is removed when the process that made it ends.
A checkpoint is a pickle: it is loaded through ultralytics' list of allowed classes, unless the
environment says ``ULTRALYTICS_SAFE_LOAD=false`` for a file that you trust.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.telemetry import switch_off

ALWAYS = {"YOLO_AUTOINSTALL": "false"}
UNLESS_SET = {
    "YOLO_VERBOSE": "false",
    "ULTRALYTICS_SAFE_LOAD": "true",
    # matplotlib: draw figures with its own font. To list the system's fonts it starts fontconfig,
    # which writes its own cache.
    "MPL_IGNORE_SYSTEM_FONTS": "1",
}
READ_AT_IMPORT = {"YOLO_AUTOINSTALL": "AUTOINSTALL", "ULTRALYTICS_SAFE_LOAD": "SAFE_LOAD"}
TRUE = ("1", "true", "yes", "on", "y", "t")  # values that ultralytics reads as true
UNLESS_SET_OF = {
    # OpenMP threads that spin while waiting made a training on a shared machine 60 times slower.
    # Only for training: benchmarks time PyTorch with its defaults.
    "train": {"OMP_WAIT_POLICY": "PASSIVE"},
}
FOLDERS_UNLESS_SET = {
    "YOLO_CONFIG_DIR": "ultralytics",
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
}
TRACKERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
NEEDED = {
    "train": ("torch", "ultralytics"),
    "export": ("torch", "onnx", "ultralytics"),
    "convert": ("onnx",),
    "bench": ("torch", "onnx", "ultralytics"),
    "figures": ("matplotlib.figure",),
}
EXTRA_OF = {"convert": "export", "figures": "train"}  # other extras map to their own name


def prepare_third_party(extra: str) -> None:
    """Set the switches and import the libraries that an extra of this package installs.

    ``extra`` is ``train``, ``export`` or ``bench``; ``convert`` for the part of ``export`` that
    makes one model file from another; ``figures`` for the part of ``train`` that draws.

    Raises:
        UsageError: one of its libraries is not installed.
    """
    switch_off()
    os.environ.update(ALWAYS)
    for name, value in {**UNLESS_SET, **UNLESS_SET_OF.get(extra, {})}.items():
        os.environ.setdefault(name, value)
    _set_folders()
    try:
        for library in NEEDED[extra]:
            import_module(library)
        if "ultralytics" in NEEDED[extra]:
            _silence_ultralytics()
    except ImportError as error:
        library = (error.name or "a library").partition(".")[0]
        name = EXTRA_OF.get(extra, extra)
        raise UsageError(
            f"{library} is not installed: pip install 'rsna-lumbar[{name}]'"
        ) from error


def _set_folders() -> None:
    """One private folder for each setting that is not set yet; child processes share it."""
    missing = FOLDERS_UNLESS_SET.keys() - os.environ.keys()
    if not missing:
        return
    folder = Path(tempfile.mkdtemp(prefix="rsna-lumbar-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in missing:
        place = folder / FOLDERS_UNLESS_SET[name]
        place.mkdir()
        os.environ[name] = str(place)


def _silence_ultralytics() -> None:
    utils = import_module("ultralytics.utils")
    # dict's own update changes memory only; a user's settings file stays as it is.
    dict.update(utils.SETTINGS, {"sync": False, **dict.fromkeys(TRACKERS, False)})
    # It may have been imported before, without our switches; correct the values modules copied.
    for name, constant in READ_AT_IMPORT.items():
        switch = os.environ[name].strip().lower() in TRUE
        for path, module in list(sys.modules.items()):
            if path.partition(".")[0] == "ultralytics" and hasattr(module, constant):
                setattr(module, constant, switch)
    if events := sys.modules.get("ultralytics.utils.events"):
        events.events.enabled = False
