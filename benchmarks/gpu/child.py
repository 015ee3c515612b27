"""The process of one job: ``python -m ... MODULE:FUNCTION NOTES WORK quick|full PART NAME ...``."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from importlib import import_module
from pathlib import Path

from rsna_lumbar.benchmarks.gpu.jobs import Settings
from rsna_lumbar.benchmarks.gpu.rows import Notes, Row
from rsna_lumbar.runtime.core.errors import LumbarError


def main(words: list[str]) -> None:
    """Run a job; an error becomes a row."""
    function, notes_path, work, mode, part, name, *arguments = words
    notes = Notes(Path(notes_path))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, _, attribute = function.partition(":")
    try:
        run = getattr(import_module(module), attribute)
        run(notes, Settings(Path(work), mode == "quick"), *arguments)
    except LumbarError as error:
        notes.add(Row(part, name, f"not done: {error}"))
    except Exception as error:  # of any library: its message is a result of the check
        traceback.print_exc()
        notes.add(Row(part, name, f"failed: {type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    """Standard input ends with the parent."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
