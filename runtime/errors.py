"""What can go wrong, as a small family. The commands turn each into one line and an exit code."""

from __future__ import annotations


class LumbarError(Exception):
    """The work cannot go on. The message says what, which file, and what to do. Exit code 1."""

    exit_code = 1


class UsageError(LumbarError):
    """The request cannot be met as asked (an option, a device, a backend). Exit code 2."""

    exit_code = 2


class BundleError(LumbarError):
    """The bundle is missing, damaged, or of a format that this version does not read."""


class DataError(LumbarError):
    """The data folder or one of its tables cannot be used at all."""


class BackendError(LumbarError):
    """A runtime refused a model, or failed while it ran one."""
