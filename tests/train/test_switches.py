"""ultralytics' switches, in a process that imported it before anything of ours."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import ultralytics.utils.events, ultralytics.utils.checks, ultralytics.nn.tasks
ultralytics.utils.events.events.enabled = True  # as where there is internet
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
prepare_third_party("train")
print(
    ultralytics.utils.events.events.enabled,
    ultralytics.utils.checks.AUTOINSTALL,
    ultralytics.nn.tasks.SAFE_LOAD,
    ultralytics.utils.SETTINGS["sync"],
)
"""
SWITCHES = ("YOLO_AUTOINSTALL", "ULTRALYTICS_SAFE_LOAD")


def test_an_ultralytics_of_before_is_switched_too() -> None:
    clean = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=clean
    )
    assert done.stdout.split()[-4:] == ["False", "False", "True", "False"]
