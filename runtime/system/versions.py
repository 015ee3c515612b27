"""Versions of what is installed, for manifests, cards and tables."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Python's version and that of each distribution that is installed."""
    found = {"python": platform.python_version()}
    for name in distributions:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
