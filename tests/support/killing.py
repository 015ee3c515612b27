"""A process that ends without cleaning up, at a moment that is counted and not timed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

KILLED = 9


def end_at_change(count: int, changes: Iterable[tuple[Any, str]]) -> None:
    """From now on, count calls of these functions; end the process before call ``count``.

    A write is torn: half of it is done.

    Args:
        count: from 0.
        changes: (module or class, name of a function of it).
    """
    left, write = [count], os.write

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                if change is write:
                    write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os._exit(KILLED)
            return change(*arguments, **options)

        return wrapper

    for owner, name in changes:
        setattr(owner, name, counted(getattr(owner, name)))


def kill_at_call(count: int) -> None:
    """From now on, count all calls of this thread; have the process killed before call ``count``.

    Args:
        count: from 0; of functions of Python and of C.
    """
    left = [count]

    def called() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _at_each_call(called)


def calls_of(work: Callable[[], object]) -> int:
    """How many calls this thread makes to do it, as :func:`kill_at_call` counts them."""
    count = [0]

    def called() -> None:
        count[0] += 1

    _at_each_call(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count[0]


def _at_each_call(called: Callable[[], None]) -> None:
    def profiled(_: FrameType, event: str, __: object) -> None:
        if event in ("call", "c_call"):
            called()

    sys.setprofile(profiled)
