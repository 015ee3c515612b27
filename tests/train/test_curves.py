"""The picture of a training: whole, replaced in one step, alike for alike tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsna_lumbar.train.fitting.curves import PANELS, draw_curves

COLUMNS = ["epoch", "time", *(name for panel in PANELS for name in panel.columns.values())]


def write_results(path: Path, epochs: int, columns: list[str] = COLUMNS) -> Path:
    lines = [",".join(columns)]
    for epoch in range(1, epochs + 1):
        lines.append(",".join([str(epoch), *(f"{1 / epoch:.6g}" for _ in columns[1:])]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("epochs", [1, 40])
def test_every_panel_is_drawn(tmp_path: Path, epochs: int) -> None:
    draw_curves(write_results(tmp_path / "a.csv", epochs), tmp_path / "a.png", title="spinal")
    with Image.open(tmp_path / "a.png") as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    height, width = picture.shape[0] // 2, picture.shape[1] // 3
    for row in range(2):
        for column in range(3):
            panel = picture[row * height :, column * width :][:height, :width]
            blue = (panel[..., 2] - panel[..., 0]) > 80
            orange = (panel[..., 0] - panel[..., 2]) > 80
            assert blue.sum() > 30
            assert (orange.sum() > 30) == (len(PANELS[3 * row + column].columns) == 2)
    assert [path.name for path in tmp_path.glob("*.png")] == ["a.png"]
    assert not list(tmp_path.glob(".*"))


def test_the_same_table_gives_the_same_picture(tmp_path: Path) -> None:
    table = write_results(tmp_path / "a.csv", 5)
    draw_curves(table, tmp_path / "a.png", title="spinal")
    first = (tmp_path / "a.png").read_bytes()
    draw_curves(table, tmp_path / "a.png", title="spinal")
    assert (tmp_path / "a.png").read_bytes() == first


def test_a_value_that_is_no_number_leaves_a_gap(tmp_path: Path) -> None:
    table = write_results(tmp_path / "a.csv", 3)
    table.write_text(table.read_text().replace("0.5", "nan"))
    draw_curves(table, tmp_path / "a.png", title="spinal")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (1210, 660)
