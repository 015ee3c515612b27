"""Telemetry of libraries: off in the environment as soon as any package of ours is imported.

A library reads its switch when it is imported or loaded, and a process that is started has it from
the one that started it. So the four packages set all of them before they import anything else;
what the user has set there does not count.
"""

from __future__ import annotations

import os

OFF = {
    # ONNX Runtime writes a device id and a database of events below HOME and looks its maker up by
    # DNS, also after disable_telemetry_events().
    "ORT_DISABLE_TELEMETRY": "1",
    "YOLO_OFFLINE": "true",  # ultralytics: no events, no look for updates, no download
    "NO_ALBUMENTATIONS_UPDATE": "1",  # ultralytics imports it where it is installed
}


def switch_off() -> None:
    """Set every switch, for this process and those that it starts."""
    os.environ.update(OFF)
