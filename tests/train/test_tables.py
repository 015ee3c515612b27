"""Reading the tables, and joining them, with every oddity of the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import LOCATIONS, SPINAL, SUBARTICULAR
from rsna_lumbar.train.dataset.annotations import LeftOut, annotate
from rsna_lumbar.train.dataset.tables import LABELS, POINTS, SERIES, Tables, read_tables

COLUMNS = ["_".join(location) for location in LOCATIONS]
HEADER = "study_id,series_id,instance_number,condition,level,x,y"


def write(folder: Path, name: str, *lines: str, line_end: str = "\n") -> None:
    (folder / name).write_bytes("".join(f"{line}{line_end}" for line in lines).encode())


def write_tables(folder: Path, *points: str, line_end: str = "\n", grades: str = "Severe") -> None:
    """Studies 7 (all ``grades``) and 10 (all empty), series 71 T2, 72 T1, 73 axial."""
    write(
        folder,
        LABELS,
        ",".join(["study_id", *COLUMNS]),
        ",".join(["7", *[grades] * 25]),
        ",".join(["10", *[""] * 25]),
        line_end=line_end,
    )
    write(folder, POINTS, HEADER, *points, line_end=line_end)
    write(
        folder,
        SERIES,
        "study_id,series_id,series_description",
        "7,71,Sagittal T2/STIR",
        "7,72,Sagittal T1",
        "7,73,Axial T2",
        line_end=line_end,
    )


def read(folder: Path, *points: str) -> Tables:
    write_tables(folder, *points)
    return read_tables(folder)


def test_no_points_at_all(tmp_path: Path) -> None:
    tables = read(tmp_path)
    assert tables.studies == ("10", "7")
    assert tables.empty_labels == 25
    used, left_out = annotate(tables, SPINAL)
    assert used.empty
    assert list(left_out["reason"]) == ["label_without_point"] * 5


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_both_spellings_and_line_ends(tmp_path: Path, line_end: str) -> None:
    write_tables(
        tmp_path,
        "7,71,9,Spinal Canal Stenosis,L5/S1,10.5,20.25",
        "7,71,9,spinal_canal_stenosis,l1_l2,1,2",
        line_end=line_end,
    )
    used, _ = annotate(read_tables(tmp_path), SPINAL)
    assert used[["condition", "level", "x", "y", "class_index"]].to_numpy().tolist() == [
        ["spinal_canal_stenosis", "l1_l2", 1.0, 2.0, 2],
        ["spinal_canal_stenosis", "l5_s1", 10.5, 20.25, 14],
    ]
    assert used["instance_number"].tolist() == [9, 9]


def test_ids_stay_text(tmp_path: Path) -> None:
    tables = read(tmp_path, "7,71,9,Spinal Canal Stenosis,L5/S1,1,2")
    assert tables.points["study_id"].tolist() == ["7"]
    assert tables.series["series_id"].tolist() == ["71", "72", "73"]


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        ("7,72,3,Spinal Canal Stenosis,L1/L2,1,2", LeftOut.SERIES_OF_ANOTHER_KIND),
        ("7,99,3,Spinal Canal Stenosis,L1/L2,1,2", LeftOut.SERIES_NOT_IN_TABLE),
        ("10,71,3,Spinal Canal Stenosis,L1/L2,1,2", LeftOut.POINT_WITHOUT_LABEL),
        ("55,71,3,Spinal Canal Stenosis,L1/L2,1,2", LeftOut.POINT_WITHOUT_LABEL),
        ("7,71,3,Spinal Canal Stenosis,L1/L2,,2", LeftOut.POINT_WITHOUT_POSITION),
        ("7,71,,Spinal Canal Stenosis,L1/L2,1,2", LeftOut.POINT_WITHOUT_POSITION),
        ("7,71,8.5,Spinal Canal Stenosis,L1/L2,1,2", LeftOut.POINT_WITHOUT_POSITION),
        ("7,71,inf,Spinal Canal Stenosis,L1/L2,1,2", LeftOut.POINT_WITHOUT_POSITION),
        ("7,71,1e300,Spinal Canal Stenosis,L1/L2,1,2", LeftOut.POINT_WITHOUT_POSITION),
    ],
)
def test_a_point_that_cannot_be_used_is_counted(
    tmp_path: Path, point: str, reason: LeftOut
) -> None:
    good = "7,71,3,Spinal Canal Stenosis,L2/L3,1,2"
    used, left_out = annotate(read(tmp_path, point, good), SPINAL)
    assert used["level"].tolist() == ["l2_l3"]
    named = left_out[left_out["reason"] != LeftOut.LABEL_WITHOUT_POINT]
    assert named["reason"].tolist() == [reason.value]
    assert named["level"].tolist() == ["l1_l2"]


def test_a_label_whose_point_is_left_out_is_not_counted_twice(tmp_path: Path) -> None:
    _, left_out = annotate(read(tmp_path, "7,72,3,Spinal Canal Stenosis,L1/L2,1,2"), SPINAL)
    assert sorted(left_out["level"]) == ["l1_l2", "l2_l3", "l3_l4", "l4_l5", "l5_s1"]


def test_groups_do_not_mix(tmp_path: Path) -> None:
    tables = read(
        tmp_path,
        "7,71,3,Spinal Canal Stenosis,L1/L2,1,2",
        "7,73,3,Right Subarticular Stenosis,L1/L2,1,2",
    )
    used, _ = annotate(tables, SUBARTICULAR)
    assert used["class_index"].tolist() == [17]  # right: locations 5 to 9; severe: 3 * 5 + 2


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (LABELS, "Severe", "Sever", "grade is none .*'Sever'"),
        (LABELS, "\n10,", "\n7,", "lists a study twice .*'7'"),
        (LABELS, "spinal_canal_stenosis_l1_l2", "spinal", "lacks the column spinal_canal"),
        (POINTS, "L1/L2", "L6/S1", "level is none .*'L6/S1'"),
        (SERIES, "series_description", "kind", "lacks the column series_description"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    write_tables(tmp_path, "7,71,3,Spinal Canal Stenosis,L1/L2,1,2")
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_tables(tmp_path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    write_tables(tmp_path)
    (tmp_path / SERIES).unlink()
    with pytest.raises(DataError, match=f"{SERIES} does not exist"):
        read_tables(tmp_path)
