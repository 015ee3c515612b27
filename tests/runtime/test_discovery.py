"""Finding studies in the challenge's layout, in one study, and in any tree."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from faults import CORONAL, odd_values
from toys import AXIAL, SAGITTAL, T1, T2, slice_pixels, write_clinical_slice, write_clinical_study

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import (
    FORAMINAL,
    GROUPS,
    ROW_LOCATIONS,
    SPINAL,
    SUBARTICULAR,
    row_id,
)
from rsna_lumbar.runtime.core.reasons import Reason, Skip
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.runtime.studies.study import Inventory, natural_key, without_uid
from rsna_lumbar.runtime.studies.tables import read_series_table, read_study_list

TABLE = "study_id,series_id,series_description\n"


def shape(inventory: Inventory) -> dict[str, list[tuple[str, str | None, int]]]:
    return {
        study.study_id: [
            (one.series_id, one.group.name if one.group else None, len(one.files))
            for one in study.series
        ]
        for study in inventory.studies
    }


EXPECTED = [("11", "spinal", 3), ("22", "foraminal", 4), ("33", "subarticular", 5)]


def test_natural_order() -> None:
    assert sorted(["10.dcm", "9.dcm", "b", "a10", "a9"], key=natural_key) == [
        "9.dcm", "10.dcm", "a9", "a10", "b",
    ]  # fmt: skip


def test_no_two_names_are_level() -> None:
    names = ["1", "01", "001", "a1", "a01", "a", ""]
    assert len({natural_key(name) for name in names}) == len(names)
    assert sorted(names, key=natural_key) == ["", "001", "01", "1", "a", "a01", "a1"]


@pytest.mark.parametrize("layout", ["challenge", "tree"])
def test_nothing_depends_on_the_order_in_which_folders_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """Also where numbers in names differ by their leading zeros alone."""
    data = tmp_path / "data"
    images = data / "test_images" if layout == "challenge" else data
    for study in ("1", "01"):
        for name in ("1", "01", "001", "10"):
            write_clinical_slice(
                images / study / "6" / f"{name}.dcm",
                slice_pixels(len(name)),
                PatientID=study,
                ImagePositionPatient=[4 * int(name), 0, 0],
            )
    real, found = os.scandir, []
    for key in (lambda one: one.name, lambda one: one.name[::-1]):
        for reverse in (False, True):
            monkeypatch.setattr(
                os, "scandir",
                lambda path, key=key, reverse=reverse: sorted(real(path), key=key, reverse=reverse),
            )  # fmt: skip
            found.append(find_studies(data).studies)
    assert all(one == found[0] for one in found)
    assert [len(series.files) for study in found[0] for series in study.series] == [4, 4]


def two_archives(toy_root: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Each a tree of one study."""
    for name in ("12", "7"):
        shutil.copytree(toy_root / "test_images" / name, tmp_path / "archive" / name)
    return tmp_path / "archive" / "12", tmp_path / "archive" / "7"


def test_a_link_is_followed_where_it_is_named(toy_root: Path, tmp_path: Path) -> None:
    one, other = two_archives(toy_root, tmp_path)
    (link := tmp_path / "archive" / "link").symlink_to(other, target_is_directory=True)
    both = ["1.2.12", "1.2.7"]
    assert list(shape(find_studies([one, link]))) == both
    assert list(shape(find_studies([link, other]))) == ["1.2.7"]
    (one / "11" / "inner").symlink_to(other, target_is_directory=True)
    for data in (one, [one, one / "22"]):  # out of what was named
        assert list(shape(find_studies(data))) == both
    far = Path(shutil.copytree(toy_root / "test_images" / "100", tmp_path / "archive" / "100"))
    assert list(shape(find_studies([one, far]))) == ["1.2.100", *both]


def test_several_names_of_one_place_give_each_file_once(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two_archives(toy_root, tmp_path)
    monkeypatch.chdir(tmp_path)
    expected = find_studies([one, other])
    relative = Path("archive/12")
    for data in (
        [relative, other],
        [relative, one, other, other / "33", other / "33" / "1.dcm"],
        [Path("archive/7/11"), relative, Path("archive/../archive/7"), Path("archive/7")],
    ):
        found = find_studies(data)
        assert found.data == expected.data == tmp_path / "archive"
        assert found == expected
    assert find_studies([relative, one]).studies == find_studies(one).studies


def test_what_lies_inside_the_challenge_is_still_the_challenge(
    toy_root: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    shutil.copytree(root / "test_images" / "12", root / "extra" / "12")
    assert list(shape(find_studies([root, root / "test_images"]))) == ["100", "12", "7"]
    beside = find_studies([root, root / "extra"])  # which the layout has no place for
    assert any(
        "extra" in str(file) for s in beside.studies for one in s.series for file in one.files
    )


def test_a_table_of_uids_adds_no_study_to_those_named(toy_root: Path, tmp_path: Path) -> None:
    table = tmp_path / "series.csv"
    table.write_text(TABLE + "1.2.12,1.2.12.11,Axial T2\n")
    images = toy_root / "test_images"
    assert list(shape(find_studies(toy_root, table))) == ["1.2.100", "1.2.12", "1.2.7"]
    assert list(shape(find_studies([images / "12"], table))) == ["1.2.12"]
    assert list(shape(find_studies([images / "12", images / "7"], table))) == ["1.2.12", "1.2.7"]


def test_root_without_tables(toy_root: Path) -> None:
    inventory = find_studies(toy_root)
    # as text, "100_" < "12_" < "7_"
    assert shape(inventory) == {"100": EXPECTED, "12": EXPECTED, "7": EXPECTED}
    assert list(shape(inventory)) == ["100", "12", "7"]
    assert {one.group_from for study in inventory.studies for one in study.series} == {"header"}


def test_rows_of_one_id_that_begins_another(tmp_path: Path) -> None:
    for name in ("1", "12", "2"):
        write_clinical_study(tmp_path / "test_images", name, counts=(1, 1, 1))
    rows = [study.study_id for study in find_studies(tmp_path).studies]
    assert rows == sorted(rows, key=lambda name: f"{name}_left")


def test_files_come_in_natural_order(toy_root: Path, tmp_path: Path) -> None:
    images = tmp_path / "train_images" / "5" / "6"
    for number in (100, 9, 20):
        write_clinical_slice(images / f"{number}.dcm", slice_pixels(number))
    (study,) = find_studies(tmp_path).studies
    assert [path.name for path in study.series[0].files] == ["9.dcm", "20.dcm", "100.dcm"]


def test_folder_of_images_and_one_study(toy_root: Path) -> None:
    assert len(find_studies(toy_root / "test_images").studies) == 3
    assert shape(find_studies(toy_root / "test_images" / "12")) == {"12": EXPECTED}


def test_a_table_decides_the_kind_and_adds_what_is_missing(toy_root: Path, tmp_path: Path) -> None:
    table = tmp_path / "series.csv"
    table.write_text(TABLE.replace("\n", "\r\n") + "12,11,Sagittal T1\r\n999,1,Axial T2\r\n")
    inventory = find_studies(toy_root, table)
    by_id = {study.study_id: study for study in inventory.studies}
    assert by_id["12"].of(FORAMINAL)[0].series_id == "11"
    assert by_id["12"].series[0].group_from == "table"
    assert by_id["12"].series[1].group_from == "header"
    assert by_id["999"].listed
    assert not by_id["7"].listed
    assert [(s.reason, s.what) for s in inventory.skips] == [
        (Reason.SAME_ANATOMY, "test_images/12/22"),  # as a T1, 11 shows what 22 does
        (Reason.SERIES_NOT_FOUND, "999/1"),
    ]


def test_the_table_beside_the_images_is_used(toy_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    (root / "test_series_descriptions.csv").write_text(TABLE + "7,11,Axial T2\n")
    by_id = {study.study_id: study for study in find_studies(root).studies}
    assert not by_id["7"].of(SPINAL)
    one = find_studies(root / "test_images" / "12")
    assert [study.study_id for study in one.studies] == ["12"]


def test_a_root_with_both_folders_means_test_images_unless_the_table_lies_in_train(
    tmp_path: Path,
) -> None:
    write_clinical_study(tmp_path / "test_images", "1", counts=(1, 1, 1))
    write_clinical_study(tmp_path / "train_images", "2", counts=(1, 1, 1))
    assert list(shape(find_studies(tmp_path))) == ["1"]
    table = tmp_path / "series.csv"
    table.write_text(TABLE + "2,11,Axial T2\n")
    assert list(shape(find_studies(tmp_path, table))) == ["2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study_id,series_id\n1,2\n", "lacks the column series_description"),
        (TABLE + "1,,Axial T2\n", "line 2 lacks a study_id or series_id"),
        (TABLE + "\n\n,2,Axial T2\n", "line 4 lacks a study_id or series_id"),
        (TABLE + "12,11,T1\n../1,2,Axial T2\n", "that can be no folder's name"),
        ("", "cannot be read"),
        ("study_id;series_id\n1;2\n", "lacks the column"),
        (TABLE + "1,2,Axial T2\n1,3,Axial T2\n1,2,Sagittal T1\n", "line 4 lists .* of line 2"),
        (TABLE + "1,2,Axial T2\n1,2,\n", "line 3 lists the series of line 2 as another kind"),
    ],
)
def test_a_bad_table_is_refused(toy_root: Path, tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "series.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        find_studies(toy_root, table)


@pytest.mark.parametrize(
    "text",
    [
        "study_id , series_id,\tseries_description\n12,11,Axial T2\n",
        "study_id;series_id;series_description\r\n12;11;Axial T2\r\n",
        '"study_id";"series_id";"why";"series_description"\n12;11;"a;b, c";Axial T2\n',
        "study_id\tseries_id\tseries_description\n12\t11\tAxial T2\n",
        TABLE + "12,11,Axial T2\n12,11,Axial T2\n",
    ],
)
def test_a_table_as_spreadsheets_write_it(tmp_path: Path, text: str) -> None:
    table = tmp_path / "series.csv"
    table.write_text(text, newline="")
    assert read_series_table(table) == {("12", "11"): SUBARTICULAR}
    assert read_study_list(table) == ("12",)


def test_any_tree_is_told_by_its_headers(toy_root: Path, tmp_path: Path) -> None:
    """The same files under other names, all in one folder."""
    for index, path in enumerate(sorted(toy_root.rglob("*.dcm"), reverse=True)):
        shutil.copy(path, tmp_path / f"IM{index}")
    (tmp_path / "notes.txt").write_text("no DICOM")
    inventory = find_studies(tmp_path)
    assert {study: [row[1:] for row in rows] for study, rows in shape(inventory).items()} == {
        f"1.2.{study}": [row[1:] for row in EXPECTED] for study in ("12", "7", "100")
    }
    assert [(skip.reason, skip.what) for skip in inventory.skips] == [
        (Reason.NOT_DICOM, "notes.txt")
    ]


def test_links_to_folders_are_followed_once(toy_root: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(toy_root / "test_images" / "12", tree / "a")
    (tree / "again").symlink_to(tree / "a", target_is_directory=True)
    (tree / "a" / "loop").symlink_to(tree, target_is_directory=True)
    (study,) = find_studies(tree).studies
    assert [len(one.files) for one in study.series] == [3, 4, 5]


@pytest.mark.parametrize(
    ("orientation", "times", "reason", "why"),
    [
        (AXIAL, T1, Reason.KIND_NOT_NEEDED, "axial, echo 10 ms, repetition 600 ms"),
        (
            AXIAL,
            {"EchoTime": 10},
            Reason.KIND_NOT_NEEDED,
            "axial, echo 10 ms, repetition 3500 ms: density",
        ),
        (
            AXIAL,
            {"EchoTime": None},
            Reason.KIND_UNKNOWN,
            "neither times nor a description that tell",
        ),
        (None, {}, Reason.KIND_UNKNOWN, "no orientation"),
    ],
)
def test_a_series_for_nobody_is_kept_and_named(
    tmp_path: Path,
    orientation: list[int] | None,
    times: dict[str, object],
    reason: Reason,
    why: str,
) -> None:
    write_clinical_slice(
        tmp_path / "a.dcm",
        slice_pixels(0),
        ImageOrientationPatient=orientation,
        **{**T2, **times},
    )
    inventory = find_studies(tmp_path)
    (study,) = inventory.studies
    assert [one.group for one in study.series] == [None]
    assert not any(study.of(group) for group in GROUPS)
    assert inventory.skips == (Skip(reason, "1.2.3/1.2.3.4", f"series of 1 files: {why}"),)
    assert inventory.skips[0].harmless == (reason is Reason.KIND_NOT_NEEDED)


def test_an_unreadable_series_without_table_is_named(tmp_path: Path) -> None:
    images = tmp_path / "test_images"
    write_clinical_study(images, "1", counts=(1, 1, 1))
    (images / "1" / "44").mkdir()
    (images / "1" / "44" / "1.dcm").write_text("broken")
    assert [s.what for s in find_studies(tmp_path).skips] == ["test_images/1/44/1.dcm"]


@pytest.mark.parametrize("make", [lambda p: None, lambda p: (p / "x").write_text("x")])
def test_nothing_to_score_is_an_error(tmp_path: Path, make: object) -> None:
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(DataError, match="holds no MR image"):
        find_studies(tmp_path)


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        find_studies(tmp_path / "absent")


@pytest.mark.parametrize("root_of", ["test_images", "."])
def test_only_the_studies_asked_for(toy_root: Path, tmp_path: Path, root_of: str) -> None:
    """In the challenge's layout the others are not even opened; one that is not there is due."""
    shutil.copytree(toy_root, tmp_path, dirs_exist_ok=True)
    broken = tmp_path / "test_images" / "12" / "11" / "1.dcm"
    assert broken.exists()
    broken.write_bytes(b"no DICOM")
    inventory = find_studies(tmp_path / root_of, studies=["7", "404"])
    assert shape(inventory) == {"404": [], "7": EXPECTED}
    assert [study.listed for study in inventory.studies] == [True, True]
    assert inventory.skips == ()


def test_only_the_studies_asked_for_in_a_tree(toy_root: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_root / "test_images", tmp_path / "tree")
    (one, *_) = (study.study_id for study in find_studies(tmp_path / "tree").studies)
    assert [study.study_id for study in find_studies(tmp_path, studies=[one]).studies] == [one]


def test_studies_asked_for_tell_which_images_a_root_means(toy_root: Path, tmp_path: Path) -> None:
    """The challenge's own root has both folders."""
    shutil.copytree(toy_root, tmp_path, dirs_exist_ok=True)
    write_clinical_study(tmp_path / "train_images", "5", counts=(1, 1, 1))
    assert list(shape(find_studies(tmp_path))) == ["100", "12", "7"]
    assert list(shape(find_studies(tmp_path, studies=["5"]))) == ["5"]
    assert list(shape(find_studies(tmp_path, studies=["12"]))) == ["12"]


def test_none_of_the_studies_asked_for(toy_root: Path) -> None:
    with pytest.raises(DataError, match="none of the 2 studies"):
        find_studies(toy_root, studies=["404", "405"])


def test_a_sample_submission_is_a_study_list(tmp_path: Path) -> None:
    path = tmp_path / "sample_submission.csv"
    rows = [row_id(study, *location) for study in ("7", "12") for location in ROW_LOCATIONS]
    path.write_text("row_id,normal_mild\n" + "".join(f"{row},0.3\n" for row in rows))
    assert read_study_list(path) == ("12", "7")
    path.write_text(path.read_text() + "7_spinal_canal_stenosis_L1_L2,0.3\n")
    with pytest.raises(DataError, match=r"line 52: .*names no row"):
        read_study_list(path)


def test_a_study_list_is_any_table_with_study_id(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("x,study_id\r\n1,12\r\n2, 7 \r\n3,12\r\n4,\r\n")
    assert read_study_list(path) == ("12", "7")


@pytest.mark.parametrize(
    ("text", "message"),
    [("id\n1\n", "column study_id"), ("study_id\n", "names no study"), ("", "")],
)
def test_study_lists_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=rf"list\.csv.*{message}"):
        read_study_list(tmp_path / "list.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_study_list(tmp_path / "absent.csv")


def test_hidden_folders_are_no_studies(toy_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    (root / "test_images" / ".ipynb_checkpoints").mkdir()
    assert sorted(shape(find_studies(root))) == ["100", "12", "7"]


def refuse(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """From now on these folders cannot be listed."""
    scandir = os.scandir

    def listed(path: str | Path) -> object:
        if Path(path) in folders:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listed)


def test_a_folder_of_a_tree_that_cannot_be_listed_is_named(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Path(shutil.copytree(toy_root / "test_images", tmp_path / "tree"))
    refuse(monkeypatch, tree / "12" / "22")
    found = find_studies(tree)
    assert found.strays == (Skip(Reason.UNREADABLE, "12/22", "Permission denied"),)
    assert len(found.studies) == 3


@pytest.mark.parametrize("layout", ["challenge", "tree"])
def test_no_folder_is_lost_in_silence(
    toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """Inside a series, where the challenge's layout has no place: unreadable, or behind a link."""
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    series, apart = root / "test_images" / "12" / "22", tmp_path / "apart"
    shutil.copytree(series, apart)
    for name in ("locked", "deeper/locked"):
        (series / name).mkdir(parents=True)
        shutil.copy(series / "1.dcm", series / name)
    (series / "deeper" / "link").symlink_to(apart, target_is_directory=True)
    if layout == "tree":
        series = (root / "test_images").rename(root / "images") / "12" / "22"
    refuse(monkeypatch, series / "locked", series / "deeper" / "locked")
    found = find_studies(root)
    unreadable = sorted(s.what for s in found.skips if s.reason is Reason.UNREADABLE)
    assert [name.split("/12/22/")[1] for name in unreadable] == ["deeper/locked", "locked"]
    read = [file for study in found.studies for one in study.series for file in one.files]
    seen = [str(file) for file in read] + [skip.what for skip in found.skips]
    assert sum("deeper/link/" in name for name in seen) == 4


def test_a_link_back_into_the_archive_names_nothing_twice(toy_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    for number, there in enumerate((root, root.parent, root / "test_images" / "7")):
        link = root / "test_images" / "12" / "22" / f"up{number}"
        link.symlink_to(there, target_is_directory=True)
    found = find_studies(root)
    assert found.skips == ()
    assert shape(found) == shape(find_studies(toy_root))


def test_a_list_of_studies_names_nothing_outside(toy_root: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_root / "test_images" / "12", tmp_path / "secret")
    for name in ("../../secret", ".", "..", "12/11"):
        with pytest.raises(DataError, match="can be no folder's name"):
            find_studies(toy_root, studies=["12", name])


def test_what_the_layout_has_no_place_for_is_named(toy_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    images = root / "test_images"
    for path in (images / "a.txt", images / "12" / "DICOMDIR"):
        path.write_text("no DICOM")
    slices = images / "12" / "22" / "1.dcm"
    for folder in (images / "12" / "22" / "deeper" / "still", images / ".hidden"):
        folder.mkdir(parents=True)
        shutil.copy(slices, folder)
    found = find_studies(root)
    assert [(skip.reason, skip.what) for skip in found.skips] == [
        (Reason.OUTSIDE_SERIES, "test_images/.hidden/1.dcm"),
        (Reason.NOT_DICOM, "test_images/a.txt"),
        (Reason.NOT_DICOM, "test_images/12/DICOMDIR"),
        (Reason.OUTSIDE_SERIES, "test_images/12/22/deeper/still/1.dcm"),
    ]
    assert [skip.harmless for skip in found.skips] == [False, True, True, False]


@pytest.mark.parametrize("layout", ["challenge", "tree"])
@pytest.mark.parametrize("first", ["no orientation", "coronal", "cut", "text"])
def test_the_first_file_alone_does_not_tell_the_kind(
    toy_root: Path, tmp_path: Path, layout: str, first: str
) -> None:
    """A localizer or a faulty file in front costs itself, not the series."""
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    series = root / "test_images" / "12" / "22"
    ids = {"StudyInstanceUID": "1.2.12", "SeriesInstanceUID": "1.2.12.22"}
    if first in ("no orientation", "coronal"):
        orientation = None if first == "no orientation" else [1, 0, 0, 0, 0, -1]
        write_clinical_slice(
            series / "0.dcm", slice_pixels(9), ImageOrientationPatient=orientation, **ids
        )
    else:
        cut = (series / "1.dcm").read_bytes()[:500]
        (series / "0.dcm").write_bytes(cut if first == "cut" else b"no DICOM")
    data = root if layout == "challenge" else root / "test_images" / "12"
    if layout == "tree":
        data = Path(shutil.copytree(data, tmp_path / "tree"))
    groups = {
        series.group.name
        for study in find_studies(data).studies
        for series in study.series
        if series.group and study.study_id.endswith("12")
    }
    assert groups == {"spinal", "foraminal", "subarticular"}


def test_a_link_in_a_circle_is_a_file_of_its_series(toy_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    (root / "test_images" / "12" / "22" / "9.dcm").symlink_to("9.dcm")
    by_id = {study.study_id: study for study in find_studies(root).studies}
    assert [len(series.files) for series in by_id["12"].series] == [3, 5, 5]


@pytest.mark.parametrize("uid", ["Doe^Jane", "=HYPERLINK(1)", "1.2.3 Doe", "1" * 65])
def test_what_is_no_uid_is_not_shown_as_one(tmp_path: Path, uid: str) -> None:
    with odd_values():
        write_clinical_slice(
            tmp_path / "tree" / "a" / "1.dcm",
            slice_pixels(1),
            StudyInstanceUID=uid,
            SeriesInstanceUID=uid,
        )
    (study,) = find_studies(tmp_path / "tree").studies
    assert study.study_id == study.series[0].series_id == without_uid("a")
    (study,) = find_studies(tmp_path / "tree", ids="folder").studies
    assert (study.study_id, study.series[0].series_id) == ("a", "a")


def test_studies_of_the_challenge_by_uid(toy_root: Path, tmp_path: Path) -> None:
    found = find_studies(toy_root, ids="uid")
    assert shape(found) == {
        f"1.2.{name}": [(f"1.2.{name}.{series}", *rest) for series, *rest in EXPECTED]
        for name in ("100", "12", "7")
    }
    assert list(shape(found)) == sorted(shape(found), key=lambda name: f"{name}_")
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    shutil.copytree(root / "test_images" / "12", root / "test_images" / "13")
    with pytest.raises(DataError, match=r"two folders .* of one study.*--ids folder"):
        find_studies(root, ids="uid")


def test_studies_of_a_tree_by_folder(toy_root: Path, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(toy_root / "test_images", tmp_path / "tree"))
    assert list(shape(find_studies(tree))) == ["1.2.100", "1.2.12", "1.2.7"]
    named = [(f"12/{series}", *rest) for series, *rest in EXPECTED]
    assert shape(find_studies(tree, ids="folder"))["12"] == named
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in tree.rglob("*.dcm"):  # all studies in one folder
        shutil.copy(path, flat / "-".join(path.relative_to(tree).parts))
    found = shape(find_studies(flat, ids="folder"))
    assert list(found) == ["flat", "flat~2", "flat~3"]
    assert [name for name, *_ in found["flat"]] == ["flat", "flat~2", "flat~3"]
    (only,) = find_studies(flat, ids="folder", studies=["flat~2"]).studies
    assert shape(Inventory(flat, (only,), ()))["flat~2"] == found["flat~2"]


def test_a_folder_that_cannot_be_listed_costs_itself(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found out when its study is looked into; the others are not lost."""
    refuse(monkeypatch, toy_root / "test_images" / "12" / "22")
    by_id = {study.study_id: study for study in find_studies(toy_root).studies}
    assert by_id["7"].skips == ()
    assert by_id["12"].skips == (Skip(Reason.UNREADABLE, "test_images/12/22", "Permission denied"),)
    assert [len(series.files) for series in by_id["12"].series] == [3, 0, 5]


def test_studies_of_a_table_only_are_due(toy_root: Path, tmp_path: Path) -> None:
    table = tmp_path / "series.csv"
    table.write_text(TABLE + "999,1,Axial T2\n")
    (study,) = find_studies(toy_root, table, studies=["999"]).studies
    assert (study.study_id, study.listed) == ("999", True)
    assert [skip.reason for skip in study.skips] == [Reason.SERIES_NOT_FOUND]


@pytest.mark.parametrize("layout", ["challenge", "tree"])
@pytest.mark.parametrize(
    "odd",
    [
        {"ImageOrientationPatient": AXIAL},  # would be another detector's
        {"ImageOrientationPatient": CORONAL},  # would be nobody's
        T1,
        {"EchoTime": None},  # tells nothing
    ],
)
def test_most_headers_tell_a_series(tmp_path: Path, layout: str, odd: dict[str, object]) -> None:
    """The first file and the last are odd ones."""
    images = tmp_path / ("test_images" if layout == "challenge" else "archive")
    for number in range(12):
        elements = odd if number in (0, 11) else {}
        write_clinical_slice(
            images / "1" / "11" / f"{number}.dcm", slice_pixels(number), **elements
        )
    (study,) = find_studies(images).studies
    assert [one.group for one in study.series] == [SPINAL]
    assert study.skips == ()


def test_localizers_inside_a_series_are_not_its_own(tmp_path: Path) -> None:
    images = tmp_path / "test_images"
    for number in range(12):
        odd = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]} if number in (0, 11) else {}
        write_clinical_slice(images / "1" / "11" / f"{number}.dcm", slice_pixels(number), **odd)
    (study,) = find_studies(images).studies
    assert [(one.group, len(one.files)) for one in study.series] == [(SPINAL, 10), (None, 2)]
    assert [skip.reason for skip in study.skips] == [Reason.KIND_NOT_NEEDED, Reason.REGROUPED]
    assert study.skips[0].what == "1/11~2"


def test_a_series_whose_first_headers_tell_nothing(tmp_path: Path) -> None:
    """It is gone through until one does."""
    images = tmp_path / "test_images"
    for number in range(30):
        echo = {} if number == 29 else {"EchoTime": None}
        write_clinical_slice(images / "1" / "11" / f"{number}.dcm", slice_pixels(number), **echo)
    (study,) = find_studies(images).studies
    assert [one.group for one in study.series] == [SPINAL]


def test_a_series_that_is_mostly_nobodys(tmp_path: Path) -> None:
    images = tmp_path / "test_images"
    for number in range(9):
        plane = SAGITTAL if number == 4 else CORONAL
        write_clinical_slice(
            images / "1" / "11" / f"{number}.dcm",
            slice_pixels(number),
            ImageOrientationPatient=plane,
        )
    (study,) = find_studies(images).studies
    assert [one.group for one in study.series] == [None]
    assert [skip.reason for skip in study.skips] == [Reason.KIND_NOT_NEEDED]


@pytest.mark.parametrize("layout", ["challenge", "tree"])
def test_by_uid_neither_folder_nor_what_stands_in_place_of_a_uid_is_shown(
    tmp_path: Path, layout: str
) -> None:
    images = tmp_path / ("test_images" if layout == "challenge" else "archive")
    with odd_values():
        write_clinical_slice(
            images / "Doe 1" / "Doe 11" / "1.dcm",
            slice_pixels(0),
            StudyInstanceUID="Jane Doe",
            SeriesInstanceUID="Doe^Jane",
        )
    (study,) = find_studies(images, ids="uid").studies
    assert "Doe" not in study.study_id + study.series[0].series_id
