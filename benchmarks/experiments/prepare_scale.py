"""``rsna-train prepare`` on a tree with the sizes of the challenge's: slices per second and memory.

    python benchmarks/experiments/prepare_scale.py WORK

1,975 studies, 6,294 series, 147,218 slices, 48,692 points on 24,546 slices. Labelled slices are
hard links to phantom slices in the matrices of the median study (T1 512, T2 448, axial 384 pixels,
12 bits, RLE); all others are links to a file that has a header and no pixels, so that a preparation
that opened them would fail. So the figures do not include the time of a disk to read 64 GB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import click
import numpy as np

from rsna_lumbar.benchmarks.harness.machine import describe_machine
from rsna_lumbar.runtime.core.labels import (
    GRADE_TITLES,
    GROUPS,
    LOCATIONS,
    condition_title,
    level_title,
)
from rsna_lumbar.runtime.system.machine import versions_of

STUDIES, SERIES, SLICES, POINTS, LABELLED = 1975, 6294, 147_218, 48_692, 24_546
MATRIX_PX = {"Sagittal T1": 512, "Sagittal T2/STIR": 448, "Axial T2": 384}
FREQUENCIES = (0.77, 0.16, 0.07)
# Labelled slices of a series kind in a study: 1 and 4 in each, and the rest axial.
SAGITTAL_LABELLED = {"Sagittal T2/STIR": 1, "Sagittal T1": 4}
LIBRARIES = ("rsna-lumbar", "numpy", "pandas", "pydicom", "pylibjpeg-rle", "pillow")
_POLL_S = 0.25
_MOST_LINKS = 50_000  # to one file; ext4 allows 65,000


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment of a preparation."""

    seconds: float
    slices: int
    memory_mib: float  # resident, of the command and its workers together


@click.command()
@click.argument("work", type=click.Path(path_type=Path, file_okay=False))
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--image-size", type=click.IntRange(32), default=384, show_default=True)
def cli(work: Path, workers: int, image_size: int) -> None:
    """Make the tree in WORK where it is not there yet, prepare it, and print what was seen."""
    root, out = work / "root", work / "prepared"
    if not root.exists():
        make_tree(root, work / "drawn")
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(f"{out}.partial", ignore_errors=True)
    words = ["prepare", root, out, "--workers", workers, "--image-size", image_size]
    samples = list(_watched([str(word) for word in words], out))
    click.echo(_report(samples, workers, image_size))


def make_tree(root: Path, drawn: Path) -> None:
    """Tables and links; ``drawn`` takes the phantom slices that are linked to."""
    sources = _draw(drawn)
    aside = root.with_name(f"{root.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    series = list(large_series())
    stubs = _stubs(drawn, next(iter(sources.values()))[0])
    _link_all(aside / "train_images", series, sources, stubs)
    write_tables(aside, series)
    aside.rename(root)


@dataclass(frozen=True, slots=True)
class Stack:
    """One series: its slices are numbered from 1, and these are labelled."""

    study: str
    series: str
    kind: str
    count: int
    labelled: tuple[int, ...]


def large_series() -> Iterator[Stack]:
    """3 series a study, and a further axial one in the first studies, up to the known totals."""
    axial_left = LABELLED - STUDIES * sum(SAGITTAL_LABELLED.values())
    slices_left, series_left = SLICES, SERIES
    for index in range(STUDIES):
        study = str(100_000_000 + 7919 * index)
        kinds = [*MATRIX_PX, *["Axial T2"] * (index < SERIES - 3 * STUDIES)]
        for place, kind in enumerate(kinds):
            count = slices_left // series_left
            slices_left, series_left = slices_left - count, series_left - 1
            labelled = SAGITTAL_LABELLED.get(kind, 0)
            if kind == "Axial T2" and place == 2:  # a second axial series stays unlabelled
                labelled = axial_left // (STUDIES - index)
                axial_left -= labelled
            numbers = tuple(range(3, 3 + labelled))
            yield Stack(study, f"{study}{place}", kind, count, numbers)


def _draw(folder: Path) -> dict[str, list[Path]]:
    """Slices of each kind in its matrix: those of one phantom study, enlarged, with noise."""
    import pandas as pd

    if not folder.exists():
        words = ["phantom", folder, "--studies", 1, "--matrix-px", 160, "--seed", 5]
        subprocess.run([*_COMMAND, *map(str, words)], check=True)
    table = pd.read_csv(folder / "train_series_descriptions.csv", dtype=str)
    found: dict[str, list[Path]] = {kind: [] for kind in MATRIX_PX}
    for study, series, kind in table.itertuples(index=False):
        for path in sorted((folder / "train_images" / study / series).glob("*.dcm")):
            found[kind].append(_enlarge(path, folder / f"{series}_{path.name}", MATRIX_PX[kind]))
    return found


def _enlarge(source: Path, target: Path, matrix_px: int) -> Path:
    """Noise makes the pixels as hard to pack as real ones."""
    import pydicom
    from PIL import Image
    from pydicom.uid import RLELossless

    dataset = pydicom.dcmread(source)
    large = Image.fromarray(dataset.pixel_array.astype(np.float32)).resize((matrix_px, matrix_px))
    noise = np.random.default_rng(matrix_px).normal(0, 12, (matrix_px, matrix_px))
    pixels = np.clip(np.asarray(large) + noise, 0, 4095).astype(np.uint16)
    dataset.Rows = dataset.Columns = matrix_px
    dataset.compress(RLELossless, pixels, encoding_plugin="pylibjpeg")
    dataset.save_as(target)
    return target


def _stubs(drawn: Path, source: Path) -> list[Path]:
    """Files with a header and no pixels, as many as SLICES links need."""
    import pydicom

    dataset = pydicom.dcmread(source)
    del dataset.PixelData
    paths = [drawn / f"stub{number}.dcm" for number in range(SLICES // _MOST_LINKS + 1)]
    for path in paths:
        dataset.save_as(path)
    return paths


def _link_all(
    images: Path, series: list[Stack], sources: dict[str, list[Path]], stubs: list[Path]
) -> None:
    links = 0
    for stack in series:
        folder = images / stack.study / stack.series
        folder.mkdir(parents=True)
        for number in range(1, stack.count + 1):
            choice = sources[stack.kind] if number in stack.labelled else stubs
            source = choice[links % len(choice)]
            links += 1
            os.link(source, folder / f"{number}.dcm")


def write_tables(root: Path, series: list[Stack]) -> None:
    rng = np.random.default_rng(0)
    studies = list(dict.fromkeys(stack.study for stack in series))
    drawn = rng.choice(GRADE_TITLES, (len(studies), len(LOCATIONS)), p=FREQUENCIES)
    header = ",".join(["study_id", *("_".join(location) for location in LOCATIONS)])
    grades = [",".join([study, *row]) for study, row in zip(studies, drawn, strict=True)]
    _write(root / "train.csv", header, grades)
    kinds = [f"{stack.study},{stack.series},{stack.kind}" for stack in series]
    _write(root / "train_series_descriptions.csv", "study_id,series_id,series_description", kinds)
    points = [line for stack in series if stack.labelled for line in _points(stack)]
    spare = [index for index, (_, further) in enumerate(points) if further]
    left_out = set(spare[:: len(spare) // (len(points) - POINTS)][: len(points) - POINTS])
    lines = [line for index, (line, _) in enumerate(points) if index not in left_out]
    columns = "study_id,series_id,instance_number,condition,level,x,y"
    _write(root / "train_label_coordinates.csv", columns, lines)


def _points(stack: Stack) -> Iterator[tuple[str, bool]]:
    """Every location of the group once, dealt out to the labelled slices.

    Beside each line whether its slice has a point already: without it, it is labelled all the same.
    """
    group = next(group for group in GROUPS if group.series_kind == stack.kind)
    for turn, (condition, level) in enumerate(group.locations):
        number = stack.labelled[turn % len(stack.labelled)]
        at = 40 + 8 * turn
        line = (
            f"{stack.study},{stack.series},{number},{condition_title(condition)},"
            f"{level_title(level)},{at}.5,{at}.25"
        )
        yield line, turn >= len(stack.labelled)


def _write(path: Path, header: str, lines: list[str]) -> None:
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")


# Watching

_COMMAND = [sys.executable, "-c", "from rsna_lumbar.train.cli import main; main()"]


def _watched(words: list[str], out: Path) -> Iterator[Sample]:
    """Run a command of ``rsna-train`` and look at it until it ends."""
    started = time.perf_counter()
    process = subprocess.Popen([*_COMMAND, *words], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        time.sleep(_POLL_S)
        slices = _lines(out.with_name(f"{out.name}.partial"))
        yield Sample(time.perf_counter() - started, slices, _memory_mib(process.pid))
    if process.returncode:
        raise click.ClickException(f"prepare ended with {process.returncode}")
    yield Sample(time.perf_counter() - started, _lines(out), 0.0)


def _lines(out: Path) -> int:
    """Slices of all groups that are done."""
    return sum(path.read_bytes().count(b"\n") - 1 for path in out.glob("*/slices.csv"))


def _memory_mib(pid: int) -> float:
    import psutil

    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
        return float(sum(one.memory_info().rss for one in family) / 2**20)
    except psutil.NoSuchProcess:
        return 0.0


def _report(samples: list[Sample], workers: int, image_size_px: int) -> str:
    total = samples[-1]
    lines = [f"{'slices':>7} {'s':>7} {'slices/s':>9} {'MiB':>7}"]
    for share in range(1, 11):
        one = next(s for s in samples if s.slices >= total.slices * share / 10 or s is total)
        memory = max(s.memory_mib for s in samples if s.seconds <= one.seconds)
        rate = one.slices / one.seconds
        lines.append(f"{one.slices:7} {one.seconds:7.1f} {rate:9.1f} {memory:7.0f}")
    versions = ", ".join(f"{name} {version}" for name, version in versions_of(LIBRARIES).items())
    return "\n".join(
        [
            f"rsna-train prepare: {STUDIES} studies, {SERIES} series, {SLICES} slices, "
            f"{total.slices} of them labelled",
            f"{image_size_px} px, {workers} workers; MiB: the most so far, resident, of the "
            "command and its workers together",
            *lines,
            describe_machine(),
            f"{versions}; {date.today()}",
        ]
    )


if __name__ == "__main__":
    cli()
