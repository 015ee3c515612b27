"""A process that ends without cleaning up, just before it changes a file for the n-th time.

A write is torn: half of it is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

KILLED = 9


def end_at_change(count: int, changes: Iterable[tuple[Any, str]]) -> None:
    """From now on, count calls of these functions; end the process before call ``count``.

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
