"""How decoders take damaged pixels: each in a process of its own, which they may end.

    python benchmarks/experiments/decoder_mutants.py DECODER FILE FIRST COUNT

is that process. It writes a letter a mutant: ``d`` decoded, ``r`` refused, ``p`` panicked (an error
that is no Exception). What ends it is a crash (``c``), or a hang (``h``) where its alarm did.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pixel_decoders import DECODERS

OUTCOMES = {"d": "decoded", "r": "refused", "p": "panicked", "c": "crashed", "h": "hung"}
LIMIT_S = 10  # for one mutant; each takes milliseconds
PIXEL_DATA = b"\xe0\x7f\x10\x00"


def safety_table(path: Path, count: int) -> Iterator[str]:
    """Lines: what became of ``count`` mutants of a file, for each decoder."""
    yield f"{f'{count} mutants of one RLE file':36}" + "".join(
        f"{name:>9}" for name in OUTCOMES.values()
    )
    for decoder in DECODERS:
        seen = outcomes(decoder.name, path, count)
        yield f"{decoder.name:36}" + "".join(f"{seen.count(one):9d}" for one in OUTCOMES)
    yield "bytes of the compressed pixels changed, or the file cut short inside them"


def outcomes(decoder: str, path: Path, count: int) -> str:
    """One letter of OUTCOMES for each mutant; what ends the process counts, and the next begins."""
    seen = ""
    while len(seen) < count:
        words = [sys.executable, __file__, decoder, str(path), str(len(seen)), str(count)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        seen += done.stdout
        if done.returncode:
            seen += "h" if done.returncode == -signal.SIGALRM else "c"
    return seen


def mutant(content: bytes, seed: int) -> bytes:
    """The same for the same seed."""
    dice = random.Random(seed)
    pixels = content.rindex(PIXEL_DATA)
    changed = bytearray(content)
    for _ in range(dice.choice((1, 2, 8, 64))):
        # As often in the 64 bytes of the RLE header as in all that follows.
        end = dice.choice((pixels + 100, len(changed)))
        changed[dice.randrange(pixels + 12, end)] = dice.randrange(256)
    if dice.random() < 0.2:
        del changed[dice.randrange(pixels + 12, len(changed)) :]
    return bytes(changed)


def main(name: str, file: str, first: str, count: str) -> None:
    """Decode mutants ``first`` to ``count``, a letter for each as soon as it is known."""
    decoder = next(one for one in DECODERS if one.name == name)
    content = Path(file).read_bytes()
    decoder.of(content)  # what is not installed ends here
    for seed in range(int(first), int(count)):
        signal.alarm(LIMIT_S)
        try:
            decoder.of(mutant(content, seed))
            letter = "d"
        except Exception:
            letter = "r"
        except BaseException:
            letter = "p"
        signal.alarm(0)
        print(letter, end="", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
