"""A data set -> one picture with random boxes of each class, to check that they are placed right.

Each row is a class: its name, its number of boxes, a whole slice with one box, then crops around
randomly chosen boxes. The first crop shows the box of the whole slice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import GRADES, GROUPS, condition_title, level_title
from rsna_lumbar.runtime.system.atomic_files import atomic_file
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
from rsna_lumbar.train.dataset.split import PARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CROP_SIDES = 3  # width of a crop, in sides of its box
TILE_PX = 100
ROW_PX = TILE_PX + 14  # with the slice's name below; 30 rows stay under 3500 px
COLUMN_PX = 160  # fits a slice's name such as 4003253001_2702807833_5049
TITLE_PX = 66
NAMES_PX = 224  # the column with the names of the classes
DPI = 72  # a point is a pixel, so that all sizes are in pixels

BACKGROUND = "#16161a"  # also beyond the border of a slice, whose own padding is 114
TEXT, FAINT, LINE = "#ebebeb", "#a5a5af", "#3e3e46"
PLAIN = "#50d2ff"  # the box of a class that is not one of the challenge's
GRADE_COLOURS = dict(zip(GRADES, ("#5ae678", "#ffbe32", "#ff5555"), strict=True))
# Class -> the two lines of its name, and its colour.
HEADINGS = {
    f"{condition}_{level}_{grade}": (
        f"{level_title(level)}  {grade.replace('_', '/')}",
        condition_title(condition),
        GRADE_COLOURS[grade],
    )
    for group in GROUPS
    for condition, level in group.locations
    for grade in GRADES
}


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A labelled box. The boxes with the lowest ranks are drawn."""

    rank: bytes  # a hash of seed, slice and line, so that the order of files has no influence
    class_index: int
    part: str
    name: str  # of the slice
    shares: tuple[float, ...]  # centre x, centre y, width, height: shares of the square


def write_contact_sheet(
    folder: Path, target: Path, title: str, classes: Sequence[str], *, seed: int
) -> None:
    """Write :func:`draw_contact_sheet` as a PNG and replace ``target`` atomically."""
    prepare_third_party("figures")
    from matplotlib import style

    # The user's own settings of matplotlib must not change the picture.
    with style.context("default"), atomic_file(target) as stream:
        figure = draw_contact_sheet(folder, title, classes, seed=seed)
        fast = {"compress_level": 1}  # of Pillow: four times as fast as its default
        figure.savefig(stream, format="png", metadata={"Software": None}, pil_kwargs=fast)


def draw_contact_sheet(
    folder: Path, title: str, classes: Sequence[str], *, seed: int, per_class: int = 6
) -> Figure:
    """Draw ``per_class`` boxes of each class, or all if there are fewer.

    The choice depends on the seed, the names of the slices and the lines of their label files; it
    does not depend on the split or on the order in which the file system lists files. The same data
    set and seed give the same picture. Only the slices that are drawn are opened.

    Args:
        folder: the data set of one group: ``images/{train,val}/<name>.png`` (square, uint8 grey)
            and ``labels/{train,val}/<name>.txt``.
        classes: names of the classes, by index.

    Raises:
        DataError: a label file cannot be read, or a slice to draw is missing or is not a square
            grey image.
        UsageError: matplotlib is not installed.
    """
    prepare_third_party("figures")
    from matplotlib.figure import Figure

    files = {part: sorted((folder / "labels" / part).glob("*.txt")) for part in PARTS}
    boxes = [b for part in PARTS for path in files[part] for b in _boxes(path, seed, len(classes))]
    width, height = NAMES_PX + (1 + per_class) * COLUMN_PX, TITLE_PX + len(classes) * ROW_PX
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=BACKGROUND)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    counts = [
        f"{part}: {len(files[part]):,} slices, {sum(b.part == part for b in boxes):,} boxes"
        for part in PARTS
    ]
    _write(axes, 10, 8, "     ".join([title, *counts, f"seed {seed}"]), 18, TEXT)
    legend = f"random boxes; crops are {CROP_SIDES} box sides wide; a cross marks the centre"
    for x, text in (
        (10, "class"),
        (NAMES_PX, "slice of the first box"),
        (NAMES_PX + COLUMN_PX, legend),
    ):
        _write(axes, x, TITLE_PX - 22, text, 12, FAINT)
    for index, name in enumerate(classes):
        of_class = [box for box in boxes if box.class_index == index]
        top = TITLE_PX + index * ROW_PX
        first, second, colour = HEADINGS.get(name, (name, "", PLAIN))
        parts = ", ".join(f"{sum(b.part == part for b in of_class):,} {part}" for part in PARTS)
        axes.axhline(top - 2, color=LINE, linewidth=1)
        _write(axes, 10, top + 8, first, 16, colour)
        _write(axes, 10, top + 33, second, 12, TEXT)
        counted = f"boxes: {len(of_class):,} ({parts})" if of_class else "no box"
        _write(axes, 10, top + 53, f"class {index}\n{counted}", 11, FAINT)
        drawn = nsmallest(per_class, of_class)
        for column, box in enumerate(drawn[:1] + drawn):
            _draw_tile(axes, NAMES_PX + column * COLUMN_PX, top, folder, box, colour, not column)
    return figure


def _boxes(path: Path, seed: int, classes: int) -> Iterator[Box]:
    """The boxes of a label file."""
    try:
        for number, line in enumerate(path.read_text(encoding="ascii").splitlines()):
            index, *words = line.split()
            shares = tuple(map(float, words))
            if not 0 <= int(index) < classes:
                raise ValueError(f"class {index} of {classes}")
            if len(shares) != 4 or not all(0 <= share <= 1 for share in shares):
                raise ValueError("a box is four numbers from 0 to 1")
            rank = hashlib.sha256(f"{seed} {path.stem} {number}".encode()).digest()
            yield Box(rank, int(index), path.parent.name, path.stem, shares)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a label file ({error}); make the data set again") from error


def _draw_tile(
    axes: Axes, left: int, top: int, folder: Path, box: Box, colour: str, whole: bool
) -> None:
    """Draw a slice with a box; unless ``whole``, only the box's surroundings, cross and name."""
    from matplotlib.image import imread
    from matplotlib.patches import Rectangle

    path = folder / "images" / box.part / f"{box.name}.png"
    try:
        image = imread(path, format="png")  # (rows, columns), 0 to 1
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's error for a broken PNG
        raise DataError(f"{path} cannot be read ({error}); make the data set again") from error
    size = len(image)
    if image.shape != (size, size):
        raise DataError(f"{path} is not a square grey image; make the data set again")
    x, y, width, height = (share * size for share in box.shares)
    side = size if whole else max(1, CROP_SIDES * max(width, height))  # of the window on the slice
    zoom = TILE_PX / side
    # Where the slice's upper left corner would be on the sheet; the tile is a window on the slice.
    x0 = left if whole else left + TILE_PX / 2 - zoom * x
    y0 = top if whole else top + TILE_PX / 2 - zoom * y
    extent = (x0, x0 + zoom * size, y0 + zoom * size, y0)
    shown = axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")
    shown.set_clip_path(Rectangle((left, top), TILE_PX, TILE_PX, transform=axes.transData))
    corner = x0 + zoom * (x - width / 2), y0 + zoom * (y - height / 2)
    sides = zoom * width, zoom * height
    axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=colour, linewidth=1))
    if not whole:
        centre = left + TILE_PX / 2, top + TILE_PX / 2
        axes.plot(*centre, "+", color=colour, markersize=7, markeredgewidth=1)
        _write(axes, left, top + TILE_PX + 1, box.name, 9, FAINT)


def _write(axes: Axes, x: float, y: float, text: str, size_px: int, colour: str) -> None:
    axes.text(x, y, text, fontsize=size_px, color=colour, va="top")
