"""The roots that docs/real_data.md measures on, made from pictures of the same names and sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

from rsna_lumbar.runtime.core.labels import LOCATIONS

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "experiments" / "real_slices"
SIZES = pd.read_csv(SCRIPTS / "sagittal_t1_sizes.csv")
COLUMNS = ["study_id", "series_id", "instance_number", "condition", "level", "x", "y"]
STUDY = 4003253


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """One study, a label on each side of a sagittal series and of an axial slice."""
    folder = tmp_path / "tables"
    folder.mkdir()
    series = int(SIZES.series_id[0])
    names = ["study_id", *("_".join(location) for location in LOCATIONS)]
    grades = pd.DataFrame([[STUDY, *["Moderate"] * 25], [1, *["Severe"] * 25]], columns=names)
    grades.to_csv(folder / "train.csv", index=False)
    foraminal = [
        [STUDY, series, 9, "Left Neural Foraminal Narrowing", "L4/L5", 10.0, 20.0],
        [STUDY, series, 3, "Right Neural Foraminal Narrowing", "L4/L5", 10.0, 20.0],
    ]
    subarticular = [
        [STUDY, 77, 5, "Left Subarticular Stenosis", "L4/L5", 130.0, 80.0],
        [STUDY, 77, 5, "Right Subarticular Stenosis", "L4/L5", 500.0, 80.0],  # outside the crop
    ]
    for name, rows in (
        ("Neural_Foraminal_Narrowing", foraminal),
        ("Spinal_Canal_Stenosis", []),
        ("Subarticular_Stenosis", subarticular),
    ):
        pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / f"{name}.csv", index=False)
    return folder


def run(*words: object) -> subprocess.CompletedProcess[str]:
    script = str(SCRIPTS / "real_roots.py")
    return subprocess.run(
        [sys.executable, script, *map(str, words)], capture_output=True, text=True, check=False
    )


def test_sagittal_copies_become_a_series(tables: Path, tmp_path: Path) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    (pictures / "Severe").mkdir(parents=True)
    grey = np.arange(250 * 250, dtype=np.uint32).reshape(250, 250).astype(np.uint8)
    for side in ("left", "right"):
        name = f"{STUDY}_{side}_neural_foraminal_narrowing_l4_l5.png"
        Image.fromarray(grey).save(pictures / "Severe" / name)
    done = run("sagittal-t1", pictures, tables, out)
    assert done.stdout == f"{out}: 1 studies, 2 slices, 2 points\n", done.stderr
    series = int(SIZES.series_id[0])
    left, right = (
        pydicom.dcmread(out / "train_images" / str(STUDY) / str(series) / f"{number}.dcm")
        for number in (9, 3)
    )
    np.testing.assert_array_equal(left.pixel_array, grey)
    assert left.ImagePositionPatient[0] == 12 and right.ImagePositionPatient[0] == -12
    points = pd.read_csv(out / "train_label_coordinates.csv")
    np.testing.assert_allclose(points.x, 10 * 250 / SIZES["columns"][0])
    np.testing.assert_allclose(points.y, 20 * 250 / SIZES["rows"][0])
    assert pd.read_csv(out / "train.csv").study_id.tolist() == [STUDY]


def test_axial_copies_become_a_series_with_the_points_inside_them(
    tables: Path, tmp_path: Path
) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    # Half a width of 40 px before the box's left side at 100, one height of 20 px above 70.
    box = {"pred_level": 4, "x_min": 100.0, "y_min": 70.0, "x_max": 140.0, "y_max": 90.0}
    ids = {"study_id": STUDY, "series_id": 77, "instance_number": 5}
    pd.DataFrame([{**ids, **box}]).to_csv(pictures / "axial_with_box_df.csv", index=False)
    channels = np.stack([np.full((60, 80), grey, np.uint8) for grey in (1, 2, 3)], axis=2)
    Image.fromarray(channels).save(pictures / f"{STUDY}___77___5.png")
    done = run("axial-t2", pictures, tables, out)
    assert done.stdout == f"{out}: 1 studies, 1 slices, 1 points\n", done.stderr
    assert (pydicom.dcmread(next(out.rglob("5.dcm"))).pixel_array == 2).all()
    (point,) = pd.read_csv(out / "train_label_coordinates.csv").itertuples()
    assert (point.x, point.y, point.condition) == (50, 30, "Left Subarticular Stenosis")


@pytest.mark.parametrize("plane", ["sagittal-t1", "axial-t2"])
def test_a_folder_without_copies_is_one_line(tables: Path, tmp_path: Path, plane: str) -> None:
    (tmp_path / "pictures").mkdir()
    done = run(plane, tmp_path / "pictures", tables, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
