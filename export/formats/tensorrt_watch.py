"""What a TensorRT build says while it runs: its log, its phases and its signs of life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO

from rsna_lumbar.export.formats.builder_process import Voice
from rsna_lumbar.runtime.backends.tensorrt_library import TROUBLE, Log, Message

LOGGED = (*TROUBLE, "INFO")  # VERBOSE has 7000 messages for YOLOv8n


class Watch(Log):
    """Log and progress of one build."""

    def __init__(self, trt: Any, name: str, voice: Voice, log: TextIO | None = None) -> None:
        """Make the logger and the monitor for the library ``trt``.

        Args:
            name: begins each line of progress.
            voice: takes these lines.
            log: takes the messages; line-buffered, because the library may crash after each.
        """
        super().__init__(trt, LOGGED)
        self._name = name
        self.voice = voice
        self._log = log
        self._whole: str | None = None  # the phase that contains all others
        self.monitor = _make_monitor(trt, self)  # kept here, because the library does not keep it

    def take(self, message: Message) -> None:
        super().take(message)
        if self._log is not None and message.severity in LOGGED:
            self._log.write(f"{message.severity}: {message.text}\n")
        self.voice.live()

    def begin(self, phase: str, parent: str | None) -> None:
        """A phase begins; only the whole build and its direct parts are reported."""
        if self._whole is None:
            self._whole = phase
        elif parent != self._whole:
            self.voice.live()
            return
        self.voice.say(f"{self._name}: {phase}")

    def keep_failure(self, call: Callable[..., None], *arguments: Any) -> bool:
        """Call from the library, which loses exceptions; whether nothing has failed so far."""
        try:
            call(*arguments)
        except BaseException as error:
            self.failure = error
        return self.failure is None


def _make_monitor(trt: Any, watch: Watch) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            watch.keep_failure(watch.begin, phase, parent)

        def phase_finish(self, phase: str) -> None:
            pass

        def step_complete(self, phase: str, step: int) -> bool:
            return watch.keep_failure(watch.voice.live)

    return Monitor()
