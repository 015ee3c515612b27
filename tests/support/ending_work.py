"""What builders' processes are given to do in tests; the processes import it by this name."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from ending import end

from rsna_lumbar.export.formats import Built, BuiltFile
from rsna_lumbar.export.formats.builder_process import Voice
from rsna_lumbar.runtime.core.errors import UsageError


def echo(graph: bytes, voice: Voice) -> Built:
    voice.say("toy fp32: begun")
    voice.say("toy fp32: done")
    return Built((BuiltFile(".toy", graph[::-1]),), "any", None)


def end_at_work(way: str, graph: bytes, voice: Voice) -> Built:
    voice.say("toy fp32: at work")
    print("last words", file=sys.stderr, flush=True)
    end(way)
    return echo(graph, voice)


class _Stranger:
    """Arrives as a message that the process which started the builder cannot read."""

    def __reduce__(self) -> tuple[object, ...]:
        return import_module, ("a_module_that_is_nowhere",)


def speak_strangely(graph: bytes, voice: Voice) -> Built:
    voice.say("toy fp32: at work")
    voice.say(_Stranger())  # type: ignore[arg-type]
    end("hang")
    return echo(graph, voice)


def refuse(graph: bytes, voice: Voice) -> Built:
    raise UsageError("no such target")


def stumble(graph: bytes, voice: Voice) -> Built:
    raise ZeroDivisionError("division by zero")


def grumble(graph: bytes, voice: Voice) -> Built:
    os.write(1, b"to one\n")
    os.write(2, b"to the other\n")
    print("and by Python")
    return echo(graph, voice)
