"""Switch off the telemetry of libraries when any package of this project is imported.

A library reads its switch when it is imported or loaded, and a child process inherits it from its
parent. The four packages therefore set all switches before they import anything else, and override
the user's settings.
"""

from __future__ import annotations

import os

OFF = {
    # ONNX Runtime writes a device id and a database of events below HOME, and looks up its maker by
    # DNS, even after disable_telemetry_events().
    "ORT_DISABLE_TELEMETRY": "1",
    "YOLO_OFFLINE": "true",  # ultralytics: no events, no update check, no download
    "NO_ALBUMENTATIONS_UPDATE": "1",  # ultralytics imports albumentations if it is installed
}


def switch_off() -> None:
    """Set every switch, for this process and its child processes."""
    os.environ.update(OFF)
