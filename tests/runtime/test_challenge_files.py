"""Files with exactly the challenge's headers: real geometry, pixels drawn by others."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from rsna_lumbar.runtime.cli import main
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.runtime.studies.study import FROM_HEADER, FROM_TABLE, Inventory

TABLE = "train_series_descriptions.csv"


def kinds(root: Path) -> dict[tuple[str, str], str]:
    """(study, series) -> kind, as the table beside the images says."""
    with (root / TABLE).open(newline="") as stream:
        rows = csv.DictReader(stream)
        return {(row["study_id"], row["series_id"]): row["series_description"] for row in rows}


def told(inventory: Inventory) -> dict[tuple[str, str], str | None]:
    return {
        (study.study_id, one.series_id.rpartition(".")[2]): one.group and one.group.series_kind
        for study in inventory.studies
        for one in study.series
    }


def test_the_table_tells_the_kinds(rsna_like: Path) -> None:
    found = find_studies(rsna_like)
    assert told(found) == kinds(rsna_like)
    assert {one.group_from for study in found.studies for one in study.series} == {FROM_TABLE}
    assert found.skips == ()


@pytest.mark.parametrize("layout", ["train_images", "tree"])
def test_headers_tell_the_kinds_without_it(rsna_like: Path, tmp_path: Path, layout: str) -> None:
    shutil.copytree(rsna_like / "train_images", tmp_path / layout)
    found = find_studies(tmp_path)
    assert told(found) == kinds(rsna_like)
    assert {one.group_from for study in found.studies for one in study.series} == {FROM_HEADER}
    assert all("no header names a body part" in s.why for one in found.studies for s in one.series)
    assert found.skips == ()
    assert found.file_count == 45


@pytest.mark.parametrize("with_table", [True, False])
def test_every_slice_is_scored(
    rsna_like: Path, toy_bundle: Path, tmp_path: Path, with_table: bool
) -> None:
    root = Path(shutil.copytree(rsna_like, tmp_path / "root"))
    if not with_table:
        (root / TABLE).unlink()
    output = tmp_path / "out.csv"
    with pytest.raises(SystemExit) as caught:
        main([str(root), "--bundle", str(toy_bundle), "--output", str(output)])
    assert caught.value.code == 0
    manifest = json.loads((tmp_path / "out.run.json").read_text())
    assert manifest["counts"]["slices_scored"] == 45
    assert manifest["counts"]["slices_without_orientation"] == 0
    assert manifest["skipped"] == manifest["warnings"] == []
