"""ultralytics' switches, in a process that imported it before anything of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[1] / "support" / "ultralytics_before_us.py"
SWITCHES = ("YOLO_AUTOINSTALL", "ULTRALYTICS_SAFE_LOAD")


def test_an_ultralytics_of_before_is_switched_too() -> None:
    clean = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, check=True, env=clean
    )
    assert done.stdout.split()[-4:] == ["False", "False", "True", "False"]
