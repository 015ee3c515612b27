"""A data set -> one picture of random boxes per class, to see at once whether they sit right.

A row is a class: its name and how many boxes it has, one slice as a whole, then crops around
boxes drawn at random. The first crop shows the box of the whole slice.
"""

from __future__ import annotations

import hashlib
import io
import re
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import GRADES, GROUPS, condition_title, level_title
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.train.dataset.split import PARTS

if TYPE_CHECKING:
    from PIL import Image, ImageFont


CROP_SIDES = 3  # a crop is so many times as wide as its box
TILE_PX = 100
CAPTION_PX = 10
ROW_PX = TILE_PX + CAPTION_PX + 4  # 30 rows stay under 3500 px
COLUMN_PX = 160  # a caption such as 4003253001_2702807833_5049 fits
TITLE_PX = 66
NAMES_PX = 214
MARGIN_PX = 10
CROSS_PX = 3  # length of an arm

Colour = tuple[int, int, int]
Window = tuple[int, int, int]  # left, top, side in pixels of the slice
Edges = tuple[float, float, float, float]  # left, top, right, bottom
BACKGROUND: Colour = (22, 22, 26)  # also beyond the border of a slice, whose own padding is 114
LINE: Colour = (62, 62, 70)
TEXT: Colour = (235, 235, 235)
FAINT: Colour = (165, 165, 175)
PLAIN: Colour = (80, 210, 255)  # the box of a class that is not of the challenge
GRADE_COLOURS: dict[str, Colour] = dict(
    zip(GRADES, ((90, 230, 120), (255, 190, 50), (255, 85, 85)), strict=True)
)


@dataclass(frozen=True, slots=True)
class Box:
    """Centre and size of a box, in shares of the square."""

    x: float
    y: float
    width: float
    height: float

    def edges_px(self, size_px: int) -> Edges:
        """0 is the outer border of the first pixel."""
        return (
            (self.x - self.width / 2) * size_px,
            (self.y - self.height / 2) * size_px,
            (self.x + self.width / 2) * size_px,
            (self.y + self.height / 2) * size_px,
        )


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A box that may be drawn; those with the lowest ranks are."""

    rank: bytes
    part: str
    name: str
    box: Box = field(compare=False)


@dataclass(slots=True)
class Row:
    """What is drawn of one class."""

    class_name: str
    boxes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    drawn: list[Candidate] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Heading:
    """How a class is written on the sheet."""

    first: str
    second: str
    colour: Colour


HEADINGS = {
    f"{condition}_{level}_{grade}": Heading(
        f"{level_title(level)}  {grade.replace('_', '/')}",
        condition_title(condition),
        GRADE_COLOURS[grade],
    )
    for group in GROUPS
    for condition, level in group.locations
    for grade in GRADES
}


def write_contact_sheet(folder: Path, target: Path, *, seed: int, per_class: int = 6) -> None:
    """Draw ``per_class`` boxes of each class, or as many as there are, into an RGB PNG.

    Which boxes follows from the seed, the names of the slices and their order in a label file,
    not from the order in which a file system lists files, nor from the split. The same data set
    and seed give the same bytes (with the same Pillow). Only slices that are drawn are opened.

    Args:
        folder: the data set of one group: ``data.yaml``, ``images/{train,val}/<name>.png`` (square,
            uint8 grey) and ``labels/{train,val}/<name>.txt``.
        target: the PNG; replaced atomically.

    Raises:
        DataError: ``data.yaml`` or a label file cannot be read, or a slice to draw is missing or
            is no square image.
    """
    names = _class_names(folder / "data.yaml")
    rows = [Row(name) for name in names]
    slices = {part: _collect(folder, part, rows, seed, per_class) for part in PARTS}
    sheet = _Sheet(len(rows), per_class)
    sheet.title(_title(folder, names, rows, slices, seed))
    for index, row in enumerate(rows):
        sheet.row(index, row, folder)
    write_atomically(target, sheet.png())


def _class_names(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); make it with rsna-train prepare"
        ) from error
    found = re.findall(r"^ +(\d+): *(\S+)$", text.partition("names:")[2], flags=re.MULTILINE)
    if not found or [int(index) for index, _ in found] != list(range(len(found))):
        raise DataError(f"{path} names no classes from 0 up; make it with rsna-train prepare")
    return tuple(name for _, name in found)


def _collect(folder: Path, part: str, rows: Sequence[Row], seed: int, per_class: int) -> int:
    """Count the boxes of a part and keep the ones to draw; returns the number of label files."""
    files = sorted((folder / "labels" / part).glob("*.txt"))
    for path in files:
        for line, (class_index, box) in enumerate(_read_boxes(path, len(rows))):
            row = rows[class_index]
            row.boxes[part] += 1
            insort(row.drawn, Candidate(_rank(seed, path.stem, line), part, path.stem, box))
            del row.drawn[per_class:]
    return len(files)


def _rank(seed: int, name: str, line: int) -> bytes:
    """A hash, not a generator: it needs no order, and no library may change it."""
    return hashlib.sha256(f"{seed} {name} {line}".encode()).digest()


def _read_boxes(path: Path, classes: int) -> Iterator[tuple[int, Box]]:
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            index, *shares = line.split()
            if not 0 <= int(index) < classes:
                raise ValueError(f"class {index} of {classes}")
            yield int(index), _box([float(share) for share in shares])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no label file ({error}); make the data set again") from error


def _box(shares: Sequence[float]) -> Box:
    if len(shares) != 4 or not all(0 <= share <= 1 for share in shares):
        raise ValueError("a box is four numbers from 0 to 1")
    return Box(*shares)


def _title(
    folder: Path, names: Sequence[str], rows: Sequence[Row], slices: dict[str, int], seed: int
) -> str:
    """The group is told from its classes, so that a sheet does not depend on where it is made."""
    group = next((group.name for group in GROUPS if group.classes == tuple(names)), folder.name)
    counts = (
        f"{part}: {slices[part]:,} slices, {sum(row.boxes[part] for row in rows):,} boxes"
        for part in PARTS
    )
    return "     ".join([group, *counts, f"seed {seed}"])


class _Sheet:
    """The canvas and what is drawn on it; positions in pixels from its upper left corner."""

    def __init__(self, rows: int, per_class: int) -> None:
        from PIL import Image, ImageDraw

        width = MARGIN_PX + NAMES_PX + (1 + per_class) * COLUMN_PX
        self._image = Image.new("RGB", (width, TITLE_PX + rows * ROW_PX), BACKGROUND)
        self._draw = ImageDraw.Draw(self._image)

    def png(self) -> bytes:
        stream = io.BytesIO()
        self._image.save(stream, format="PNG")
        return stream.getvalue()

    def title(self, text: str) -> None:
        self._write((MARGIN_PX, 8), text, 20, TEXT)
        top = TITLE_PX - 22
        self._write((MARGIN_PX, top), "class", 13, FAINT)
        self._write((_column_px(0), top), "slice of the first box", 12, FAINT)
        legend = f"boxes drawn at random, {CROP_SIDES} box sides across; the cross is the centre"
        self._write((_column_px(1), top), legend, 13, FAINT)

    def row(self, index: int, row: Row, folder: Path) -> None:
        top = TITLE_PX + index * ROW_PX
        heading = HEADINGS.get(row.class_name, Heading(row.class_name, "", PLAIN))
        self._draw.line([(0, top - 2), (self._image.width, top - 2)], LINE)
        self._name(top, index, row, heading)
        if not row.drawn:
            self._write((_column_px(0), top + TILE_PX // 2 - 9), "no box", 15, FAINT)
            return
        self._image.paste(_whole(folder, row.drawn[0], heading.colour), (_column_px(0), top))
        for column, candidate in enumerate(row.drawn, start=1):
            tile, left = _crop(folder, candidate, heading.colour), _column_px(column)
            self._image.paste(tile, (left, top))
            self._write((left, top + TILE_PX - 1), candidate.name, 10, FAINT)

    def _name(self, top: int, index: int, row: Row, heading: Heading) -> None:
        total = sum(row.boxes.values())
        parts = ", ".join(f"{row.boxes[part]:,} {part}" for part in PARTS)
        self._write((MARGIN_PX, top + 8), heading.first, 18, heading.colour)
        self._write((MARGIN_PX, top + 33), heading.second, 13, TEXT)
        self._write((MARGIN_PX, top + 53), f"class {index}", 12, FAINT)
        self._write((MARGIN_PX, top + 70), f"boxes: {total:,} ({parts})", 12, FAINT)

    def _write(self, at: tuple[int, int], text: str, size_px: int, colour: Colour) -> None:
        self._draw.text(at, text, fill=colour, font=_font(size_px))


def _column_px(column: int) -> int:
    return MARGIN_PX + NAMES_PX + column * COLUMN_PX


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size_px)


def _whole(folder: Path, candidate: Candidate, colour: Colour) -> Image.Image:
    """The slice with the box; a cross would fill the box here."""
    image = _open(folder, candidate)
    window = 0, 0, image.width
    tile = _cut(image, window)
    _outline(tile, _on_tile(candidate.box, image, window), colour)
    return tile


def _crop(folder: Path, candidate: Candidate, colour: Colour) -> Image.Image:
    """The surroundings of the box, with the box and its centre."""
    image = _open(folder, candidate)
    window = _window(candidate.box, image)
    tile = _cut(image, window)
    edges = _on_tile(candidate.box, image, window)
    _outline(tile, edges, colour)
    _cross(tile, edges, colour)
    return tile


def _window(box: Box, image: Image.Image) -> Window:
    left, top, right, bottom = box.edges_px(image.width)
    side = max(1, round(CROP_SIDES * max(right - left, bottom - top)))
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side


def _cut(image: Image.Image, window: Window) -> Image.Image:
    from PIL import Image

    left, top, side = window
    cut = Image.new("RGB", (side, side), BACKGROUND)
    cut.paste(image.convert("RGB"), (-left, -top))
    return cut.resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)


def _on_tile(box: Box, image: Image.Image, window: Window) -> Edges:
    start_x, start_y, side = window
    left, top, right, bottom = box.edges_px(image.width)
    scale = TILE_PX / side
    return (
        (left - start_x) * scale,
        (top - start_y) * scale,
        (right - start_x) * scale,
        (bottom - start_y) * scale,
    )


def _outline(tile: Image.Image, edges: Edges, colour: Colour) -> None:
    """One pixel wide, inside the edges: edges are borders of pixels, lines lie on pixels."""
    from PIL import ImageDraw

    left, top = round(edges[0]), round(edges[1])
    right, bottom = max(left, round(edges[2]) - 1), max(top, round(edges[3]) - 1)
    ImageDraw.Draw(tile).rectangle([left, top, right, bottom], outline=colour)


def _cross(tile: Image.Image, edges: Edges, colour: Colour) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(tile)
    x, y = int((edges[0] + edges[2]) / 2), int((edges[1] + edges[3]) / 2)
    draw.line([(x - CROSS_PX, y), (x + CROSS_PX, y)], colour)
    draw.line([(x, y - CROSS_PX), (x, y + CROSS_PX)], colour)


def _open(folder: Path, candidate: Candidate) -> Image.Image:
    # Not Image.open: ultralytics replaces that by one that looks for more formats to install.
    from PIL.PngImagePlugin import PngImageFile

    path = folder / "images" / candidate.part / f"{candidate.name}.png"
    try:
        with PngImageFile(path) as image:
            image.load()
            grey = image.convert("L")
    except (OSError, SyntaxError) as error:  # Pillow's word for a broken PNG
        raise DataError(f"{path} cannot be read ({error}); make the data set again") from error
    if grey.width != grey.height:
        raise DataError(f"{path} is not square; make the data set again")
    return grey
