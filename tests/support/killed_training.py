"""Train once per moment, each time in a process that is killed at that moment.

    python killed_training.py DATA OUT '[["module", "function", call], ...]'

The process is killed where the function is called for the given time. Prints, per moment, the
signal, the rows of the table of results and the epochs of the checkpoint. The processes are forked,
because importing torch takes longer than the training.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
from rsna_lumbar.train.fitting.fit import FitOptions, fit
from rsna_lumbar.train.fitting.resume import training_files


def kill_at(module: str, name: str, calls: int) -> None:
    owner, left = importlib.import_module(module), calls
    wrapped = getattr(owner, name)

    def killed(*values: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return wrapped(*values, **named)

    setattr(owner, name, killed)


def main(data: Path, out: Path, moments: list[tuple[str, str, int]]) -> None:
    prepare_third_party("train")
    import torch

    importlib.import_module("rsna_lumbar.train.fitting.trainer")  # before the forks
    files = training_files(out, SPINAL.name)
    options = FitOptions(model="demo", epochs=3, batch_size=3, device="cpu")
    for moment in moments:
        process = os.fork()
        if not process:
            kill_at(*moment)
            fit(data, [SPINAL], out, options)
            os._exit(1)  # not killed
        _, status = os.waitpid(process, 0)
        epochs = rows = 0
        if files.checkpoint.exists():
            epochs = torch.load(files.checkpoint, weights_only=False)["epoch"] + 1
        if files.run_results.exists():
            rows = len(files.run_results.read_text().splitlines()) - 1
        print(json.dumps([-os.waitstatus_to_exitcode(status), rows, epochs]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
