"""Slices to verify and to calibrate on: spread over studies, and refused where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import SIZE_PX, write_clinical_study

from rsna_lumbar.export.verification import data
from rsna_lumbar.export.verification.data import calibration_slices, spread, verification_data
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.errors import DataError, ExportError, UsageError
from rsna_lumbar.runtime.core.labels import FORAMINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.core.preprocess import Preprocessing

STUDIES = tuple(str(number) for number in range(101, 109))


def detector(group: Group = SUBARTICULAR) -> Detector:
    return Detector(group, SIZE_PX, Calibration(), (), "mean", ())


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    for seed, study in enumerate(STUDIES):
        write_clinical_study(folder / "train_images", study, seed=seed, counts=(1, 1, 2))
    return folder


@pytest.mark.parametrize(
    ("count", "found"), [(1, [5]), (2, [2, 7]), (4, [1, 3, 6, 8]), (10, list(range(10)))]
)
def test_spread_takes_the_middle_of_equal_parts(count: int, found: list[int]) -> None:
    assert spread(range(10), count) == found
    assert spread([], count) == []


def test_few_studies_are_spread_over_the_folder(studies: Path) -> None:
    data = verification_data(studies, None, None)
    assert list(data.sets(detector(), Preprocessing())) == ["102", "104", "106", "108"]
    assert data.source == "data" and data.labels is None
    assert len(verification_data(studies, None, 99).inventory.studies) == len(STUDIES)


def test_without_data_the_phantom_serves() -> None:
    data = verification_data(None, None, None)
    assert data.source == "phantom"
    assert len(data.sets(detector(), Preprocessing())) == 2


def test_labels_choose_the_studies(studies: Path, tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    pd.DataFrame({"study_id": ["103", "107", "999"]}).to_csv(table, index=False)
    data = verification_data(studies, table, None)
    assert [one.study_id for one in data.inventory.studies] == ["103", "107"]
    pd.DataFrame({"study_id": ["999"]}).to_csv(table, index=False)
    with pytest.raises(DataError, match="lists no study of"):
        verification_data(studies, table, None)
    with pytest.raises(UsageError, match="--verify-labels needs --verify-data"):
        verification_data(None, table, None)


def test_calibration_slices_come_from_all_studies(
    studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = calibration_slices(studies, detector(), Preprocessing())
    assert slices.shape == (2 * len(STUDIES), SIZE_PX, SIZE_PX) and slices.dtype == np.uint8
    monkeypatch.setattr(data, "CALIBRATION_SLICES", 8)
    some = calibration_slices(studies, detector(), Preprocessing())
    assert len(some) == 8
    by_study = slices.reshape(len(STUDIES), 2, SIZE_PX, SIZE_PX)
    for one, of_study in zip(some, by_study, strict=True):
        assert any((one == slice_).all() for slice_ in of_study)


def test_folders_without_a_slice_are_refused(tmp_path: Path) -> None:
    write_clinical_study(tmp_path, "100", counts=(1, 0, 1))
    with pytest.raises(ExportError, match=r"no slice that foraminal reads .* --verify-data"):
        verification_data(tmp_path, None, None).sets(detector(FORAMINAL), Preprocessing())
    with pytest.raises(ExportError, match=r"no slice that foraminal .* --calibration-data"):
        calibration_slices(tmp_path, detector(FORAMINAL), Preprocessing())
    with pytest.raises(UsageError, match="does not exist; give --calibration-data DIR"):
        calibration_slices(tmp_path / "none", detector(), Preprocessing())
