"""The contact sheet, on slices whose every pixel is known."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import GROUPS, SPINAL, Group
from rsna_lumbar.train.dataset.contact_sheet import (
    BACKGROUND,
    GRADE_COLOURS,
    MARGIN_PX,
    NAMES_PX,
    PLAIN,
    ROW_PX,
    TILE_PX,
    TITLE_PX,
    Box,
    write_contact_sheet,
)
from rsna_lumbar.train.dataset.contact_sheet import COLUMN_PX as COLUMN

SIZE_PX = 120
GREY = 70
# 24 px wide and high from (48.3, 60.3), so that the crop is 72 px from (24, 36). The odd 0.3 keeps
# every edge and the centre off the borders between the pixels of a tile.
MIDDLE = (60.3 / SIZE_PX, 72.3 / SIZE_PX, 0.2, 0.2)

Label = tuple[int, float, float, float, float]  # class, centre, size


def write_yaml(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"  {index}: {name}\n" for index, name in enumerate(names))
    text = f"train: images/train\nval: images/val\nchannels: 1\nnames:\n{lines}"
    (folder / "data.yaml").write_text(text)
    return folder


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


def sheet_of(folder: Path, *, seed: int = 0, per_class: int = 6) -> np.ndarray:
    """The sheet (H, W, 3)."""
    target = folder / "sheet.png"
    write_contact_sheet(folder, target, seed=seed, per_class=per_class)
    with Image.open(target) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        return np.asarray(image)


def tile_of(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """Column 0 is the whole slice."""
    left, top = MARGIN_PX + NAMES_PX + column * COLUMN, TITLE_PX + row * ROW_PX
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


def test_an_empty_data_set_has_a_row_for_each_class_and_no_tile(tmp_path: Path) -> None:
    sheet = sheet_of(write_yaml(tmp_path, SPINAL.classes))
    assert sheet.shape == (TITLE_PX + 15 * ROW_PX, MARGIN_PX + NAMES_PX + 7 * COLUMN, 3)
    for row in range(15):
        assert (tile_of(sheet, row, 0) != BACKGROUND).any()  # "no box"
        assert (tile_of(sheet, row, 1) == BACKGROUND).all()


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_the_sheet_of_a_group_fits_a_screen_in_width(tmp_path: Path, group: Group) -> None:
    height, width, _ = sheet_of(write_yaml(tmp_path, group.classes)).shape
    assert width < 1400 and height < 3500


def test_box_and_cross_lie_where_the_label_says(tmp_path: Path) -> None:
    write_slice(write_yaml(tmp_path, ["a"]), "train", "1_2_3", [(0, *MIDDLE)])
    sheet = sheet_of(tmp_path)

    crop = tile_of(sheet, 0, 1)  # 72 px to 100: from 24.3 and to 48.3 become 33.75 and 67.08
    assert painted(crop) == rectangle(34, 34, 66, 66) | cross(50, 50)
    assert (crop[50, 50] == PLAIN).all() and (crop[34, 34] == PLAIN).all()
    assert (crop[10, 10] == GREY).all()

    whole = tile_of(sheet, 0, 0)  # 120 px to 100: from (40.25, 50.25) to (60.25, 70.25)
    assert painted(whole) == rectangle(40, 50, 59, 69)


def test_the_crop_shows_what_lies_under_the_box(tmp_path: Path) -> None:
    pixels = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    pixels[72:96, 24:48] = 200  # the box; no other pixel of the slice is bright
    label = (0, 36.3 / SIZE_PX, 84.3 / SIZE_PX, 0.2, 0.2)
    write_slice(write_yaml(tmp_path, ["a"]), "val", "1_2_3", [label], pixels)
    sheet = sheet_of(tmp_path)
    assert tile_of(sheet, 0, 0)[70, 30].tolist() == [200] * 3  # (36, 84) of 120, as seen in 100
    crop = tile_of(sheet, 0, 1)
    inside, outside = crop[36:47, 36:64], np.concatenate([crop[:30], crop[70:]])
    assert (np.abs(inside.astype(int) - 200) <= 3).all()
    assert (outside <= 3).all()


def test_the_crop_of_a_box_at_the_border_is_padded(tmp_path: Path) -> None:
    corner = (12 / SIZE_PX, 12 / SIZE_PX, 0.2, 0.2)  # 24 px in the upper left corner
    write_slice(write_yaml(tmp_path, ["a"]), "train", "1_2_3", [(0, *corner)])
    crop = tile_of(sheet_of(tmp_path), 0, 1)
    assert (crop[:30] == BACKGROUND).all() and (crop[:, :30] == BACKGROUND).all()
    assert (crop[80:, 80:] == GREY).all()
    assert (crop[33, 33:67] == PLAIN).all() and (crop[33:67, 33] == PLAIN).all()


def test_a_box_has_the_colour_of_its_grade(tmp_path: Path) -> None:
    names = SPINAL.classes[:3]
    labels = [(index, *MIDDLE) for index in range(3)]
    write_slice(write_yaml(tmp_path, names), "train", "1_2_3", labels)
    sheet = sheet_of(tmp_path)
    for row, colour in enumerate(GRADE_COLOURS.values()):
        assert (tile_of(sheet, row, 1)[50, 50] == colour).all()


def test_a_class_without_boxes_has_an_empty_row_between_others(tmp_path: Path) -> None:
    labels = [(0, *MIDDLE), (2, *MIDDLE)]
    write_slice(write_yaml(tmp_path, ["a", "b", "c"]), "train", "1_2_3", labels)
    sheet = sheet_of(tmp_path)
    has_tile = [bool(painted(tile_of(sheet, row, 1))) for row in range(3)]
    assert has_tile == [True, False, True]
    assert (tile_of(sheet, 1, 1) == BACKGROUND).all()


def write_many(folder: Path, names: Sequence[str]) -> Path:
    """A slice a name, its grey told by the name, so that tiles can be told apart."""
    write_yaml(folder, ["a"])
    for name in names:
        flat = np.full((SIZE_PX, SIZE_PX), 30 + 10 * int(name), np.uint8)
        part = ("train", "val")[int(name) % 2]
        write_slice(folder, part, name, [(0, *MIDDLE)], flat)
    return folder


def greys(sheet: np.ndarray, columns: int) -> list[int]:
    return [int(tile_of(sheet, 0, column)[5, 5, 0]) for column in range(1, columns + 1)]


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
        write_contact_sheet(write_many(folder, order), tmp_path / "sheet.png", seed=3)
        sheets.append((tmp_path / "sheet.png").read_bytes())
    assert sheets[0] == sheets[1]


def test_order_in_which_the_file_system_lists_files_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_many(tmp_path, [str(number) for number in range(12)])
    before = sheet_of(tmp_path)
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, text: iter(sorted(glob(self, text))[::-1]))
    assert (sheet_of(tmp_path) == before).all()


def test_the_name_of_the_folder_does_not_matter_for_a_group(tmp_path: Path) -> None:
    sheets = []
    for name in ("spinal", ".spinal.aside"):
        folder = write_yaml(tmp_path / name, SPINAL.classes)
        write_contact_sheet(folder, tmp_path / "sheet.png", seed=0)
        sheets.append((tmp_path / "sheet.png").read_bytes())
    assert sheets[0] == sheets[1]


def test_only_slices_that_are_drawn_are_opened(tmp_path: Path) -> None:
    write_many(tmp_path, [str(number) for number in range(12)])
    drawn = greys(sheet_of(tmp_path, per_class=3), 3)
    for path in tmp_path.glob("images/*/*.png"):
        if 30 + 10 * int(path.stem) not in drawn:
            path.unlink()
    assert greys(sheet_of(tmp_path, per_class=3), 3) == drawn


def test_no_text_or_time_in_the_file(tmp_path: Path) -> None:
    write_contact_sheet(write_yaml(tmp_path, ["a"]), tmp_path / "sheet.png", seed=0)
    content = (tmp_path / "sheet.png").read_bytes()
    assert not any(chunk in content for chunk in (b"tIME", b"tEXt", b"iTXt", b"zTXt", b"eXIf"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "data.yaml").unlink(),
        lambda folder: (folder / "data.yaml").write_text("names:\n  1: a\n"),
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
    write_slice(write_yaml(tmp_path, ["a"]), "train", "1", [(0, *MIDDLE)])
    sheet_of(tmp_path)
    before = (tmp_path / "sheet.png").read_bytes()
    damage(tmp_path)
    with pytest.raises(DataError) as raised:
        sheet_of(tmp_path)
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)
    assert (tmp_path / "sheet.png").read_bytes() == before
    assert not list(tmp_path.glob(".sheet*"))


def test_a_truncated_slice_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE_PX, SIZE_PX), np.uint8)
    write_slice(write_yaml(tmp_path, ["a"]), "train", "1", [(0, *MIDDLE)], noise)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, format="PNG")
    (tmp_path / "images/train/1.png").write_bytes(stream.getvalue()[:2000])
    with pytest.raises(DataError, match=r"1\.png"):
        sheet_of(tmp_path)


SHARES = st.floats(0, 1, allow_nan=False)


@given(SHARES, SHARES, SHARES, SHARES, st.integers(1, 640))
def test_edges_hold_centre_and_size(
    x: float, y: float, width: float, height: float, size_px: int
) -> None:
    left, top, right, bottom = Box(x, y, width, height).edges_px(size_px)
    assert (left + right) / 2 == pytest.approx(x * size_px, abs=1e-9)
    assert (top + bottom) / 2 == pytest.approx(y * size_px, abs=1e-9)
    assert right - left == pytest.approx(width * size_px, abs=1e-9)
    assert bottom - top == pytest.approx(height * size_px, abs=1e-9)
