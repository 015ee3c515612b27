"""What a TensorRT build says while it runs: its log and its phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rsna_lumbar.export.formats import Report
from rsna_lumbar.runtime.backends.tensorrt_library import TROUBLE, Log
from rsna_lumbar.runtime.errors import UsageError

_MONITORS: list[Any] = []  # kept: threads of the library may outlive a build that was stopped
LOGGED = (*TROUBLE, "INFO")  # VERBOSE has 7000 messages for YOLOv8n


class Watch(Log):
    """Log and progress of one build."""

    def __init__(self, trt: Any, name: str, report: Report) -> None:
        """Prepare.

        Args:
            trt: the library.
            name: begins each line of progress.
            report: takes them.
        """
        super().__init__(trt, LOGGED)
        self._trt = trt
        self._name = name
        self._report = report
        self._whole: str | None = None

    def build(self, work: Callable[[], bytes]) -> bytes:
        """Build in a thread of its own, and stop it where this one is interrupted.

        Python raises what a signal means in the main thread. If that is inside a call from the
        library's C++, the library prints it and goes on, whatever is caught in here.
        """
        with ThreadPoolExecutor(max_workers=1) as pool:
            pending = pool.submit(work)
            try:
                return pending.result()
            except BaseException as error:
                self.failure = self.failure or error  # the monitor looks at it
                raise

    def attach(self, config: Any) -> None:
        """Have the phases of a build reported: the whole, and its parts."""
        monitor = _make_monitor(self._trt, self)
        _MONITORS.append(monitor)
        config.progress_monitor = monitor

    def enter(self, phase: str, parent: str | None) -> None:
        """A phase has begun; those inside a part are not reported."""
        if self._whole is None:
            self._whole = phase
        elif parent != self._whole:
            return
        self._report(f"{self._name}: {phase}")

    def append_to(self, path: Path) -> None:
        """Write the log so far behind what the file holds.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.writelines(f"{one.severity}: {one.text}\n" for one in self.messages)
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror})") from error


@contextmanager
def watched(trt: Any, name: str, report: Report, log: Path | None) -> Iterator[Watch]:
    """Watch a build; its log is written also where it fails."""
    watch = Watch(trt, name, report)
    try:
        yield watch
    finally:
        if log is not None:
            watch.append_to(log)


def _make_monitor(trt: Any, watch: Watch) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            try:
                watch.enter(phase, parent)
            except BaseException as error:
                watch.failure = error

        def phase_finish(self, phase: str) -> None:
            pass

        def step_complete(self, phase: str, step: int) -> bool:
            return watch.failure is None

    return Monitor()
