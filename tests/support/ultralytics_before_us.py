"""Imports ultralytics as where there is internet, then switches it off; prints its switches."""

from __future__ import annotations

import ultralytics.nn.tasks
import ultralytics.utils.checks
import ultralytics.utils.events

ultralytics.utils.events.events.enabled = True

from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party  # noqa: E402

prepare_third_party("train")
print(
    ultralytics.utils.events.events.enabled,
    ultralytics.utils.checks.AUTOINSTALL,
    ultralytics.nn.tasks.SAFE_LOAD,
    ultralytics.utils.SETTINGS["sync"],
)
