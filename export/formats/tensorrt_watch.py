"""What a TensorRT build says while it runs: its log, its phases and its signs of life."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from rsna_lumbar.export.formats.builder_process import Voice
from rsna_lumbar.runtime.backends.tensorrt_library import TROUBLE, Log, Message
from rsna_lumbar.runtime.core.errors import UsageError

LOGGED = (*TROUBLE, "INFO")  # VERBOSE has 7000 messages for YOLOv8n


class Watch(Log):
    """Log and progress of one build."""

    def __init__(self, trt: Any, name: str, voice: Voice, stream: TextIO | None) -> None:
        """Prepare.

        Args:
            trt: the library.
            name: begins each line of progress.
            voice: takes them.
            stream: takes the log, each message as it comes: there may be none after it.
        """
        super().__init__(trt, LOGGED)
        self._trt = trt
        self._name = name
        self._voice = voice
        self._stream = stream
        self._whole: str | None = None
        self._monitor: Any = None  # the library does not keep it

    def take(self, message: Message) -> None:
        super().take(message)
        if self._stream is not None and message.severity in LOGGED:
            self._stream.write(f"{message.severity}: {message.text}\n")
        self._voice.live()

    def attach(self, config: Any) -> None:
        """Have the phases of a build reported: the whole, and its parts."""
        self._monitor = _make_monitor(self._trt, self)
        config.progress_monitor = self._monitor

    def enter(self, phase: str, parent: str | None) -> None:
        """A phase has begun; those inside a part are not reported."""
        if self._whole is None:
            self._whole = phase
        elif parent != self._whole:
            self._voice.live()
            return
        self._voice.say(f"{self._name}: {phase}")

    def live(self) -> None:
        """A step has been done."""
        self._voice.live()


@contextmanager
def watched(trt: Any, name: str, voice: Voice, log: Path | None) -> Iterator[Watch]:
    """Watch a build; its log is behind what the file holds, also where it fails.

    Raises:
        UsageError: the log cannot be written.
    """
    try:
        opened = log.open("a", encoding="utf-8", buffering=1) if log else nullcontext()
    except OSError as error:
        raise UsageError(f"{log} cannot be written ({error.strerror})") from error
    with opened as stream:
        yield Watch(trt, name, voice, stream)


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
            try:
                watch.live()
            except BaseException as error:
                watch.failure = error
            return watch.failure is None

    return Monitor()
