"""Processes that are started leave Ctrl-C to the one that starts them, which misses none."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ending import DEADLINE_S

from rsna_lumbar.runtime.system.processes import interrupts_ignored, quiet_stderr

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_sigmask"), reason="there are no signal masks here"
)


def test_an_interrupt_while_a_process_is_started_arrives() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_ignored():
        os.kill(os.getpid(), signal.SIGINT)


def test_the_mask_is_as_it_was() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with interrupts_ignored():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="masks of other processes are shown by Linux")
def test_a_process_that_is_started_meanwhile_takes_no_interrupt_but_a_kill() -> None:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(DEADLINE_S,))
    with interrupts_ignored():
        process.start()
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        (blocked,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigBlk"))
        assert blocked & 1 << (signal.SIGINT - 1)
        assert not blocked & 1 << (signal.SIGTERM - 1)
    finally:
        process.terminate()
        process.join()
    assert process.exitcode == -signal.SIGTERM


def test_what_is_started_meanwhile_has_no_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    program = "import sys; print('lost', file=sys.stderr)"
    with quiet_stderr():
        subprocess.run([sys.executable, "-c", program], check=True)
    os.write(2, b"kept")
    assert capfd.readouterr().err == "kept"
