"""Import OpenVINO without its telemetry.

``import openvino`` sends an event to its maker through the package ``openvino_telemetry``, before
any switch of the library could be set. OpenVINO also works without that package, so this module
makes the import behave as if the package were not installed.

The process creates only one ``Core`` and never frees it. OpenVINO's CPU plugin installs an
alternate signal stack for the thread that loads it, and frees the stack with the last user of the
plugin. If two are freed in the order they were made, or one in another thread, the thread keeps a
pointer to freed memory, and the next Ctrl-C is a segmentation fault (seen with OpenVINO 2026.4).
"""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Lock
from typing import Any

from rsna_lumbar.runtime.core.errors import UsageError

LIBRARY = "openvino"
TELEMETRY = "openvino_telemetry"

_ONE_AT_A_TIME = Lock()
_CORES: list[Any] = []  # the process's Core, once it was requested


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry, unless it was imported before.

    Raises:
        UsageError: OpenVINO is not installed.
    """
    with _ONE_AT_A_TIME:  # another thread would take a half-imported module for a complete one
        return sys.modules.get(LIBRARY) or _import()


def openvino_core() -> Any:
    """The process's only ``openvino.Core``, which outlives all models compiled with it.

    Raises:
        UsageError: OpenVINO is not installed.
    """
    openvino = load_openvino()
    with _ONE_AT_A_TIME:
        if not _CORES:
            _CORES.append(openvino.Core())
        return _CORES[0]


def _import() -> Any:
    before = sys.modules.pop(TELEMETRY, None)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # "not installed" to import
    try:
        return import_module(LIBRARY)
    except ImportError as error:
        raise UsageError(
            f"{error.name or LIBRARY} is not installed: pip install 'rsna-lumbar[openvino]'"
        ) from error
    finally:
        del sys.modules[TELEMETRY]
        if before is not None:
            sys.modules[TELEMETRY] = before
