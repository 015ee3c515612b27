"""The figures' files, and that what is drawn is what was counted."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.metric import NO_GRADE, GradedAnswers
from rsna_lumbar.train.evaluation.diagnostics import Diagnostics, diagnose
from rsna_lumbar.train.evaluation.figures import confusion_figure, draw_figures, reliability_figure


def diagnostics(studies: int = 30, *, groups: tuple[int, ...] = (0, 5, 15)) -> Diagnostics:
    rng = np.random.default_rng(4)
    grade = np.full((studies, 25), NO_GRADE, np.int64)
    for first in groups:
        columns = slice(first, first + 5)
        grade[:, columns] = rng.choice(3, (studies, 5), p=[0.7, 0.2, 0.1])
    names = tuple(str(study) for study in range(studies))
    return diagnose(GradedAnswers(names, grade, rng.dirichlet([1, 1, 1], (studies, 25))))


def test_two_pictures_are_written_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "figures"
    paths = draw_figures(diagnostics(), folder)
    assert sorted(paths) == sorted(folder.iterdir())
    assert [path.name for path in paths] == ["reliability.png", "confusion.png"]
    for path in paths:
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert min(picture.size) > 400
            assert picture.convert("L").getextrema() == (0, 255)


def test_the_same_figures_are_the_same_bytes(tmp_path: Path) -> None:
    first, again = tmp_path / "a", tmp_path / "b"
    draw_figures(diagnostics(), first)
    draw_figures(diagnostics(), again)
    for name in ("reliability.png", "confusion.png"):
        assert (first / name).read_bytes() == (again / name).read_bytes()


def test_a_failed_write_keeps_the_old_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reliability.png").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        draw_figures(diagnostics(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["reliability.png"]
    assert (tmp_path / "reliability.png").read_text() == "old"


def test_curves_hold_the_filled_bins() -> None:
    found = diagnostics()
    axes = reliability_figure(found).axes[:3]
    for place, group in zip(axes, ("spinal", "foraminal", "subarticular"), strict=True):
        assert place.get_title().startswith(group.title())
        curves = [line for line in place.get_lines() if line.get_label() != "calibrated"]
        for curve, grade in zip(curves, found.groups[group].grades, strict=True):
            filled = [found for found in grade.reliability if found.count]
            np.testing.assert_array_equal(
                curve.get_xydata(), [[found.mean_probability, found.share] for found in filled]
            )


def test_bars_are_the_counts_and_none_is_cut_off() -> None:
    found = diagnostics(400)
    for place, group in zip(
        reliability_figure(found).axes[3:], ("spinal", "foraminal", "subarticular"), strict=True
    ):
        heights = [bar.get_height() for bar in place.patches]
        assert heights == [
            bin.count for grade in found.groups[group].grades for bin in grade.reliability
        ]
        assert max(heights) < place.get_ylim()[1]


def test_matrices_show_the_counts() -> None:
    found = diagnostics()
    for place, group in zip(
        confusion_figure(found).axes, ("spinal", "foraminal", "subarticular"), strict=True
    ):
        shown = [int(text.get_text().split()[0]) for text in place.texts]
        assert shown == [count for row in found.groups[group].confusion for count in row]


def test_a_group_that_was_not_scored_has_no_place() -> None:
    found = diagnostics()
    partial = replace(found, groups={name: found.groups[name] for name in ("foraminal", "all")})
    (matrix,) = confusion_figure(partial).axes
    curves, counts = reliability_figure(partial).axes
    assert matrix.get_title().startswith("Foraminal")
    assert curves.get_title().startswith("Foraminal")
    assert len(counts.patches) == 30


def test_a_group_without_rows_is_drawn_empty(tmp_path: Path) -> None:
    found = diagnostics(2, groups=(0,))
    assert found.groups["foraminal"].rows == 0
    assert all(path.exists() for path in draw_figures(found, tmp_path))


def test_pyplot_stays_out_of_it(tmp_path: Path) -> None:
    """Its state belongs to whoever calls."""
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from rsna_lumbar.train.evaluation.diagnostics import diagnose\n"
        "from rsna_lumbar.train.evaluation.figures import draw_figures\n"
        "from rsna_lumbar.train.evaluation.metric import GradedAnswers\n"
        "answers = GradedAnswers(('1',), np.zeros((1, 25), int), np.full((1, 25, 3), 1 / 3))\n"
        "draw_figures(diagnose(answers), Path(sys.argv[1]))\n"
        "assert 'matplotlib.figure' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_a_missing_matplotlib_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError) as caught:
        draw_figures(diagnostics(), tmp_path / "figures")
    assert str(caught.value) == "matplotlib is not installed: pip install 'rsna-lumbar[train]'"
    assert not (tmp_path / "figures").exists()
