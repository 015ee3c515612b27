"""The contact sheet, on slices whose every pixel is known."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.patches import Rectangle
from PIL import Image, ImageColor

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import GROUPS, SPINAL, Group
from rsna_lumbar.train.dataset.contact_sheet import (
    BACKGROUND,
    CROP_SIDES,
    GRADE_COLOURS,
    NAMES_PX,
    PLAIN,
    ROW_PX,
    TILE_PX,
    TITLE_PX,
    draw_contact_sheet,
    write_contact_sheet,
)
from rsna_lumbar.train.dataset.contact_sheet import COLUMN_PX as COLUMN

SIZE_PX = 120
GREY = 70
# 24 px wide and high from (48.3, 60.3), so that the crop is 72 px from (24, 36). The odd 0.3 keeps
# every edge and the centre off the borders between the pixels of a tile.
MIDDLE = (60.3 / SIZE_PX, 72.3 / SIZE_PX, 0.2, 0.2)
EMPTY, OUTLINE = map(ImageColor.getrgb, (BACKGROUND, PLAIN))

Label = tuple[int, float, float, float, float]  # class, centre, size


def write_slice(
    folder: Path, part: str, name: str, labels: Sequence[Label], pixels: np.ndarray | None = None
) -> None:
    image = folder / "images" / part / f"{name}.png"
    label = folder / "labels" / part / f"{name}.txt"
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    flat = np.full((SIZE_PX, SIZE_PX), GREY, np.uint8)
    Image.fromarray(flat if pixels is None else pixels).save(image)
    label.write_text("".join(" ".join(map(str, line)) + "\n" for line in labels))


def sheet_of(
    folder: Path, classes: Sequence[str] = ("a",), *, seed: int = 0, per_class: int = 6
) -> np.ndarray:
    """The sheet (H, W, 3)."""
    stream = io.BytesIO()
    draw_contact_sheet(folder, "title", classes, seed=seed, per_class=per_class).savefig(stream)
    with Image.open(stream) as image:
        return np.asarray(image.convert("RGB"))


def write_sheet(folder: Path, target: Path, *, seed: int = 0) -> bytes:
    write_contact_sheet(folder, target, "title", ["a"], seed=seed)
    return target.read_bytes()


def tile_of(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """Column 0 is the whole slice."""
    left, top = NAMES_PX + column * COLUMN, TITLE_PX + row * ROW_PX
    return sheet[top : top + TILE_PX, left : left + TILE_PX]


def painted(tile: np.ndarray) -> set[tuple[int, int]]:
    """(x, y) of the pixels that are not grey."""
    rows, columns = np.nonzero(np.ptp(tile.astype(int), axis=2) > 4)
    return {(int(x), int(y)) for x, y in zip(columns, rows, strict=True)}


def rectangle(left: int, top: int, right: int, bottom: int) -> set[tuple[int, int]]:
    """Its outline, last row and column included."""
    across = {(x, y) for x in range(left, right + 1) for y in (top, bottom)}
    return across | {(x, y) for x in (left, right) for y in range(top, bottom + 1)}


def cross(x: int, y: int) -> set[tuple[int, int]]:
    return {(x + step, y) for step in range(-3, 4)} | {(x, y + step) for step in range(-3, 4)}


def agree(found: set[tuple[int, int]], expected: set[tuple[int, int]]) -> bool:
    """Whether each pixel of one set is, or touches, a pixel of the other."""

    def touch(some: set[tuple[int, int]], others: set[tuple[int, int]]) -> bool:
        around = {(x + i, y + j) for x, y in others for i in (-1, 0, 1) for j in (-1, 0, 1)}
        return bool(some) and some <= around

    return touch(found, expected) and touch(expected, found)


def test_an_empty_data_set_has_a_row_for_each_class_and_no_tile(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, SPINAL.classes)
    assert sheet.shape == (TITLE_PX + 15 * ROW_PX, NAMES_PX + 7 * COLUMN, 3)
    for row in range(15):
        top = TITLE_PX + row * ROW_PX
        assert (sheet[top : top + TILE_PX, :NAMES_PX] != EMPTY).any()  # its name, "no box"
        assert (sheet[top : top + TILE_PX, NAMES_PX:] == EMPTY).all()


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_the_sheet_of_a_group_fits_a_screen_in_width(tmp_path: Path, group: Group) -> None:
    height, width, _ = sheet_of(tmp_path, group.classes).shape
    assert width < 1400 and height < 3500


def test_box_and_cross_lie_where_the_label_says(tmp_path: Path) -> None:
    write_slice(tmp_path, "train", "1_2_3", [(0, *MIDDLE)])
    sheet = sheet_of(tmp_path)

    crop = tile_of(sheet, 0, 1)  # 72 px to 100: from 24.3 and to 48.3 become 33.75 and 67.08
    assert agree(painted(crop), rectangle(34, 34, 66, 66) | cross(50, 50))
    assert any((crop[y, x] == OUTLINE).all() for x, y in painted(crop))
    assert (np.abs(crop[10, 10].astype(int) - GREY) <= 1).all()

    whole = tile_of(sheet, 0, 0)  # 120 px to 100: from (40.25, 50.25) to (60.25, 70.25)
    assert agree(painted(whole), rectangle(40, 50, 59, 69))


def test_the_crop_shows_what_lies_under_the_box(tmp_path: Path) -> None:
    pixels = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    pixels[72:96, 24:48] = 200  # the box; no other pixel of the slice is bright
    label = (0, 36.3 / SIZE_PX, 84.3 / SIZE_PX, 0.2, 0.2)
    write_slice(tmp_path, "val", "1_2_3", [label], pixels)
    sheet = sheet_of(tmp_path)
    middle = tile_of(sheet, 0, 0)[70, 30]  # (36, 84) of 120, as seen in 100
    assert (np.abs(middle.astype(int) - 200) <= 1).all()
    crop = tile_of(sheet, 0, 1)
    inside, outside = crop[36:47, 36:64], np.concatenate([crop[:30], crop[70:]])
    assert (np.abs(inside.astype(int) - 200) <= 3).all()
    assert (outside <= 3).all()


def test_the_crop_of_a_box_at_the_border_is_padded(tmp_path: Path) -> None:
    corner = (12 / SIZE_PX, 12 / SIZE_PX, 0.2, 0.2)  # 24 px in the upper left corner
    write_slice(tmp_path, "train", "1_2_3", [(0, *corner)])
    crop = tile_of(sheet_of(tmp_path), 0, 1)
    assert (crop[:30] == EMPTY).all() and (crop[:, :30] == EMPTY).all()
    assert (
        np.abs(crop[80:, 80:].astype(int) - GREY) <= 1
    ).all()  # resampling may change a grey by one
    assert agree(painted(crop[30:, 30:]), rectangle(3, 3, 36, 36) | cross(20, 20))


def test_a_box_has_the_colour_of_its_grade(tmp_path: Path) -> None:
    names = SPINAL.classes[:3]
    labels = [(index, *MIDDLE) for index in range(3)]
    write_slice(tmp_path, "train", "1_2_3", labels)
    sheet = sheet_of(tmp_path, names)
    for row, colour in enumerate(GRADE_COLOURS.values()):
        assert (tile_of(sheet, row, 1) == ImageColor.getrgb(colour)).all(axis=2).any()


def test_a_class_without_boxes_has_an_empty_row_between_others(tmp_path: Path) -> None:
    labels = [(0, *MIDDLE), (2, *MIDDLE)]
    write_slice(tmp_path, "train", "1_2_3", labels)
    sheet = sheet_of(tmp_path, ["a", "b", "c"])
    has_tile = [bool(painted(tile_of(sheet, row, 1))) for row in range(3)]
    assert has_tile == [True, False, True]
    assert (tile_of(sheet, 1, 1) == EMPTY).all()


def write_many(folder: Path, names: Sequence[str]) -> Path:
    """A slice a name, its grey told by the name, so that tiles can be told apart."""
    for name in names:
        flat = np.full((SIZE_PX, SIZE_PX), 30 + 10 * int(name), np.uint8)
        part = ("train", "val")[int(name) % 2]
        write_slice(folder, part, name, [(0, *MIDDLE)], flat)
    return folder


def greys(sheet: np.ndarray, columns: int) -> list[int]:
    """Rounded to tens, as resampling may change a grey by one."""
    return [round(int(tile_of(sheet, 0, column)[5, 5, 0]), -1) for column in range(1, columns + 1)]


def test_as_many_boxes_as_asked_for_each_once_from_both_parts(tmp_path: Path) -> None:
    write_many(tmp_path, [str(number) for number in range(20)])
    drawn = greys(sheet_of(tmp_path, per_class=20), 20)
    assert sorted(drawn) == [30 + 10 * number for number in range(20)]
    assert greys(sheet_of(tmp_path, per_class=4), 4) == drawn[:4]


def test_the_seed_chooses_the_boxes(tmp_path: Path) -> None:
    write_many(tmp_path, [str(number) for number in range(20)])
    drawn = {tuple(greys(sheet_of(tmp_path, seed=seed), 6)) for seed in range(5)}
    assert len(drawn) == 5


def test_same_bytes_whatever_the_order_and_place_of_the_files(tmp_path: Path) -> None:
    names = [str(number) for number in range(12)]
    sheets = []
    for order, folder in ((names, tmp_path / "one" / "a"), (names[::-1], tmp_path / "two" / "a")):
        sheets.append(write_sheet(write_many(folder, order), tmp_path / "sheet.png", seed=3))
    assert sheets[0] == sheets[1]


def test_settings_of_the_user_do_not_change_the_picture(tmp_path: Path) -> None:
    write_many(tmp_path, ["1", "2"])
    before = write_sheet(tmp_path, tmp_path / "before.png")
    own = {"font.size": 30, "font.family": "monospace", "image.interpolation": "nearest",
           "savefig.dpi": 40, "lines.linewidth": 9, "savefig.bbox": "tight"}  # fmt: skip
    with matplotlib.rc_context(own):
        assert write_sheet(tmp_path, tmp_path / "after.png") == before


def test_order_in_which_the_file_system_lists_files_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_many(tmp_path, [str(number) for number in range(12)])
    before = sheet_of(tmp_path)
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, text: iter(sorted(glob(self, text))[::-1]))
    assert (sheet_of(tmp_path) == before).all()


def test_only_slices_that_are_drawn_are_opened(tmp_path: Path) -> None:
    write_many(tmp_path, [str(number) for number in range(12)])
    drawn = greys(sheet_of(tmp_path, per_class=3), 3)
    for path in tmp_path.glob("images/*/*.png"):
        if 30 + 10 * int(path.stem) not in drawn:
            path.unlink()
    assert greys(sheet_of(tmp_path, per_class=3), 3) == drawn


def test_the_file_is_a_png_without_text_or_time(tmp_path: Path) -> None:
    content = write_sheet(tmp_path, tmp_path / "sheet.png")
    assert content.startswith(b"\x89PNG")
    assert not any(chunk in content for chunk in (b"tIME", b"tEXt", b"iTXt", b"zTXt", b"eXIf"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "labels/train/1.txt").write_text("0 0.5 0.5 0.1\n"),
        lambda folder: (folder / "labels/train/1.txt").write_text("1 0.5 0.5 0.1 0.1\n"),
        lambda folder: (folder / "labels/train/1.txt").write_text("-1 0.5 0.5 0.1 0.1\n"),
        lambda folder: (folder / "labels/train/1.txt").write_text("0 nan 0.5 0.1 0.1\n"),
        lambda folder: (folder / "labels/train/1.txt").write_text("0 0.5 0.5 1e9 0.1\n"),
        lambda folder: (folder / "images/train/1.png").unlink(),
        lambda folder: (folder / "images/train/1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing"),
        lambda folder: Image.new("L", (4, 5)).save(folder / "images/train/1.png"),
    ],
)
def test_a_damaged_data_set_is_told_in_one_line_and_the_old_sheet_stays(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    write_slice(tmp_path, "train", "1", [(0, *MIDDLE)])
    before = write_sheet(tmp_path, tmp_path / "sheet.png")
    damage(tmp_path)
    with pytest.raises(DataError) as raised:
        write_sheet(tmp_path, tmp_path / "sheet.png")
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)
    assert (tmp_path / "sheet.png").read_bytes() == before
    assert not list(tmp_path.glob(".sheet*"))


def test_a_truncated_slice_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE_PX, SIZE_PX), np.uint8)
    write_slice(tmp_path, "train", "1", [(0, *MIDDLE)], noise)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, format="PNG")
    (tmp_path / "images/train/1.png").write_bytes(stream.getvalue()[:2000])
    with pytest.raises(DataError, match=r"1\.png"):
        sheet_of(tmp_path)


@pytest.fixture(scope="module")
def one_slice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_slice(folder, "train", "1", [(0, *MIDDLE)])
    return folder


SHARES = st.floats(0.01, 1)


@given(SHARES, SHARES, SHARES, SHARES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_drawn_boxes_have_the_centre_and_size_of_their_label(
    one_slice: Path, x: float, y: float, width: float, height: float
) -> None:
    line = f"0 {x!r} {y!r} {width!r} {height!r}\n"
    (one_slice / "labels" / "train" / "1.txt").write_text(line)
    (axes,) = draw_contact_sheet(one_slice, "title", ["a"], seed=0).axes
    whole, crop = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert whole.get_center() == pytest.approx((NAMES_PX + TILE_PX * x, TITLE_PX + TILE_PX * y))
    assert whole.get_width() == pytest.approx(TILE_PX * width)
    assert whole.get_height() == pytest.approx(TILE_PX * height)
    left = NAMES_PX + COLUMN
    assert crop.get_center() == pytest.approx((left + TILE_PX / 2, TITLE_PX + TILE_PX / 2))
    side = max(1 / SIZE_PX, CROP_SIDES * max(width, height))  # side of the crop, as a share
    assert crop.get_width() == pytest.approx(TILE_PX * width / side)
    assert crop.get_height() == pytest.approx(TILE_PX * height / side)
