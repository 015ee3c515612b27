"""Times decoding of one slice, by transfer syntax, decoder and stage; and tries damaged files.

    python benchmarks/experiments/decoders.py [WORK] [--real DIR] [--rounds N] [--mutants N]

The slices are those of the generated median study: 12 of 16 bits, RLE. Those of 512 x 512 are also
stored anew in every syntax that the libraries here can write; ``--real`` adds the files of a
folder for the others. Each figure is the mean over the slices of the fastest of the rounds, on one
core, of a file that is in memory and, except for dicomsdl, parsed. A dash means that the decoder is
not installed or cannot decode the file.
"""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pydicom
from experiment import footer
from numpy.typing import NDArray
from pixel_decoders import DECODERS, Decoder, Pixels, parse
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from rsna_lumbar.benchmarks.harness.median_study import IMAGES, MEDIAN, draw_studies
from rsna_lumbar.runtime.core.preprocess import Preprocessing, to_square, window
from rsna_lumbar.runtime.dicom.dataset import open_dicom
from rsna_lumbar.runtime.dicom.pixels import stored_pixels
from rsna_lumbar.runtime.dicom.slices import Frame, read_frames, read_slices
from rsna_lumbar.runtime.system.machine import versions_of

SIZE_PX = 384
NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
# Of a damaged file; a panic is an error that is no Exception.
OUTCOMES = {"d": "decoded", "r": "refused", "p": "panicked", "c": "crashed", "h": "hung"}
LIMIT_S = 10  # for one mutant; each takes milliseconds
PIXEL_DATA = b"\xe0\x7f\x10\x00"
DECODE_MUTANTS = "import sys, decoders; decoders.decode_mutants(*sys.argv[1:])"
LIBRARIES = ("pydicom", "pylibjpeg-rle", "pylibjpeg-openjpeg", "pylibjpeg-libjpeg", "dicomsdl")
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("work", type=FOLDER, required=False)
@click.option("--real", type=FOLDER, help="Folder of further files, one slice each.")
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True)
@click.option("--mutants", type=click.IntRange(0), default=1000, show_default=True)
@click.option("--slices", type=click.IntRange(1), default=6, show_default=True)
def cli(work: Path | None, real: Path | None, rounds: int, mutants: int, slices: int) -> None:
    """Print the three tables; WORK keeps the generated study."""
    with tempfile.TemporaryDirectory() as scratch:
        root = work or Path(scratch)
        draw_studies(root, count=1)
        files = _files_by_matrix(root)
        largest = files[max(files)][:slices]
        click.echo("\n".join(_syntax_table(largest, real, rounds)))
        click.echo("\n" + "\n".join(_stage_table(files, rounds)))
        if mutants:
            click.echo("\n" + "\n".join(_safety_table(largest[0], mutants)))
    libraries = ", ".join(f"{k} {v}" for k, v in versions_of(LIBRARIES).items())
    click.echo(f"\n{rounds} rounds; {footer()}; {libraries}")


def _files_by_matrix(root: Path) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    for path in sorted((root / IMAGES).rglob("*.dcm")):
        rows = int(pydicom.dcmread(path, specific_tags=["Rows"]).Rows)
        found.setdefault(rows, []).append(path)
    return found


def _fastest_ms(
    run: Callable[[Any], object],
    values: Sequence[Any],
    rounds: int,
    prepare: Callable[[Any], Any] = lambda value: value,
) -> float:
    """Mean over the values of the fastest of the rounds; ``prepare`` is not timed."""
    best = np.full(len(values), np.inf)
    for _ in range(rounds):
        for index, value in enumerate(values):
            prepared = prepare(value)
            start = time.perf_counter()
            run(prepared)
            best[index] = min(best[index], time.perf_counter() - start)
    return float(best.mean() * 1e3)


def _syntax_table(files: list[Path], real: Path | None, rounds: int) -> Iterable[str]:
    """Milliseconds a slice and whether the pixels are pydicom's."""
    yield f"{'transfer syntax':36} {'matrix':>9}" + "".join(f"{one.name:>19}" for one in DECODERS)
    for syntax in (*NATIVE, RLELossless, JPEG2000Lossless):
        yield _syntax_row([_stored_as(path, syntax) for path in files], rounds)
    for path in sorted(real.rglob("*.dcm")) if real else ():
        yield _syntax_row([path.read_bytes()], rounds)
    yield "ms a slice; * other pixels than pydicom's; dicomsdl parses the file too"


def _stored_as(path: Path, syntax: UID) -> bytes:
    dataset = pydicom.dcmread(path)
    dataset.decompress(generate_instance_uid=False)
    if syntax in (RLELossless, JPEG2000Lossless):
        dataset.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    elif not syntax.is_little_endian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    fresh = pydicom.Dataset({element.tag: element for element in dataset})
    fresh.file_meta = dataset.file_meta
    fresh.file_meta.TransferSyntaxUID = syntax
    stream = io.BytesIO()
    fresh.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _syntax_row(contents: list[bytes], rounds: int) -> str:
    dataset = parse(contents[0])
    name = dataset.file_meta.TransferSyntaxUID.name.partition(",")[0].partition(" (")[0]
    cells = "".join(f"{_cell(one, contents, rounds):>19}" for one in DECODERS)
    return f"{name:36} {f'{dataset.Rows} x {dataset.Columns}':>9}{cells}"


def _cell(decoder: Decoder, contents: list[bytes], rounds: int) -> str:
    try:
        same = all(np.array_equal(*_both(decoder, content)) for content in contents)
    except Exception:  # not installed, or not its syntax: a decoder says so in its own way
        return "-"
    milliseconds = _fastest_ms(decoder.decode, contents, rounds, decoder.prepare)
    return f"{milliseconds:.3f}{' ' if same else '*'}"


def _both(decoder: Decoder, content: bytes) -> tuple[Pixels, Pixels]:
    reference = pixel_array(parse(content), raw=True)
    return decoder.of(content).reshape(reference.shape), reference


def _stage_table(files: dict[int, list[Path]], rounds: int) -> Iterable[str]:
    """Each stage alone, and all of them one after the other as the pipeline runs them."""
    yield f"{'median study, RLE, to 384 px':29}" + "".join(f"{name:>9}" for name in STAGES)
    rows = {rows: _stages(of, rounds) for rows, of in sorted(files.items(), reverse=True)}
    for size, row in rows.items():
        yield _stage_row(f"{len(files[size])} x {size}^2", row)
    counts = np.array([len(files[size]) for size in rows])
    mean = np.average(np.array(list(rows.values())), axis=0, weights=counts)
    yield _stage_row(f"mean of {counts.sum()} ({MEDIAN})", mean.tolist())
    yield "ms a slice; all: read_slices, whose stages find less of their input in the cache"


STAGES = ("open", "decode", "facts", "window", "square", "all")


def _stage_row(name: str, row: Sequence[float]) -> str:
    label = name if len(name) < 29 else name.partition(" (")[0]
    return f"{label:29}" + "".join(f"{value:9.3f}" for value in row)


def _stages(files: list[Path], rounds: int) -> tuple[float, ...]:
    settings = Preprocessing()
    frames = [read_frames(path)[0] for path in files]
    greys = [_grey(one) for one in frames]

    opened = _fastest_ms(_open, files, rounds)
    decoded = _fastest_ms(_open_and_decode, files, rounds)
    read = _fastest_ms(read_frames, files, rounds)
    return (
        opened,
        decoded - opened,
        read - decoded,
        _fastest_ms(_grey, frames, rounds),
        _fastest_ms(lambda grey: to_square(grey, SIZE_PX, settings.pad_value), greys, rounds),
        _fastest_ms(lambda path: read_slices(path, SIZE_PX, settings), files, rounds),
    )


def _grey(frame: Frame) -> NDArray[np.uint8]:
    settings = Preprocessing()
    return window(frame.pixels, settings, inverted=frame.inverted, padding=frame.padding)


def _open(path: Path) -> None:
    with open_dicom(path):
        pass


def _open_and_decode(path: Path) -> None:
    with open_dicom(path) as dataset:
        stored_pixels(dataset)


def _safety_table(path: Path, count: int) -> Iterator[str]:
    """The outcomes of ``count`` damaged copies of a file, for each decoder."""
    yield f"{f'{count} mutants of one RLE file':36}" + "".join(
        f"{name:>9}" for name in OUTCOMES.values()
    )
    for decoder in DECODERS:
        seen = _outcomes(decoder.name, path, count)
        yield f"{decoder.name:36}" + "".join(f"{seen.count(one):9d}" for one in OUTCOMES)
    yield "bytes of the compressed pixels changed, or the file cut short inside them"


def _outcomes(decoder: str, path: Path, count: int) -> str:
    """A letter of OUTCOMES per mutant.

    Another process decodes them and writes the letters. A crash or its alarm ends it: that is the
    outcome of one mutant, and the next process continues with the following one.
    """
    seen = ""
    while len(seen) < count:
        words = [decoder, str(path.resolve()), str(len(seen)), str(count)]
        done = subprocess.run(
            [sys.executable, "-c", DECODE_MUTANTS, *words],
            cwd=Path(__file__).parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
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


def decode_mutants(name: str, file: str, first: str, count: str) -> None:
    """Decode mutants ``first`` to ``count``; print a letter for each as soon as it is known."""
    decoder = next(one for one in DECODERS if one.name == name)
    content = Path(file).read_bytes()
    decoder.of(content)  # fails if the decoder is not installed
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
    cli()
