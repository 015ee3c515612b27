"""OpenVINO, imported so that it tells nobody.

``import openvino`` sends an event to its maker through the package ``openvino_telemetry``, before
any switch of the library could be set. It does without that package where it is not installed, so
the import is made to find none.
"""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Lock
from typing import Any

from rsna_lumbar.runtime.errors import UsageError

LIBRARY = "openvino"
TELEMETRY = "openvino_telemetry"

_ONE_AT_A_TIME = Lock()


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry, unless somebody imported it before.

    Raises:
        UsageError: it is not installed.
    """
    with _ONE_AT_A_TIME:  # to the second thread, a half imported module looks imported
        return sys.modules.get(LIBRARY) or _import()


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
