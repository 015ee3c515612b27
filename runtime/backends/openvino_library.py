"""OpenVINO, imported so that it tells nobody.

``import openvino`` sends an event to its maker through the package ``openvino_telemetry``, before
any switch of the library could be set. It does without that package where it is not installed, so
the import is made to find none.

And it is asked for one ``Core`` in a process, which stays. Its plugin for the CPU gives the thread
that loads it another stack for signals, and frees that with the last that uses the plugin: where
two are freed in the order they were made, or one in another thread, the thread is left with freed
memory, and the next Ctrl-C is a segmentation fault (seen with OpenVINO 2026.4).
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
_CORES: list[Any] = []  # the one, once it is asked for


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry, unless somebody imported it before.

    Raises:
        UsageError: it is not installed.
    """
    with _ONE_AT_A_TIME:  # to the second thread, a half imported module looks imported
        return sys.modules.get(LIBRARY) or _import()


def openvino_core() -> Any:
    """The process's only ``openvino.Core``, which outlives whatever was compiled with it.

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
