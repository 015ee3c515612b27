"""The quirk clinical-header: an ordinary clinical header, which the challenge's files lack.

It tells a series' kind without a table: MR Image Storage, valid UIDs, times, body part, protocol
and a description in words. The values are not those of a particular scanner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import NAMESPACE_OID, uuid5

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage

from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, SUBARTICULAR
from rsna_lumbar.train.phantom.acquisition import Series

_DESCRIPTIONS = {
    SPINAL.series_kind: "SAG T2 TSE",
    FORAMINAL.series_kind: "SAG T1 TSE",
    SUBARTICULAR.series_kind: "AX T2 TSE",
}


@dataclass(frozen=True, slots=True)
class Timing:
    """Echo and repetition time of a series, milliseconds, and its echo train length."""

    echo_ms: float
    repetition_ms: float
    echoes: int


@dataclass(frozen=True, slots=True)
class Clinical:
    """The part of the header that a study's files share."""

    timing: Mapping[str, Timing]  # by weighting
    field_tesla: float


def draw_clinical(rng: np.random.Generator) -> Clinical:
    """Typical values of turbo spin echoes, for both weightings."""
    timing = {
        "t1": Timing(round(rng.uniform(8, 14), 2), round(rng.uniform(480, 720), 1), 3),
        "t2": Timing(round(rng.uniform(92, 118), 2), round(rng.uniform(2900, 4300), 1), 17),
    }
    return Clinical(timing, float(rng.choice((1.5, 3.0))))


def describe_clinically(dataset: Dataset, clinical: Clinical, series: Series) -> None:
    """Add the elements of clinical files to a slice, and replace its ids."""
    timing, study = clinical.timing[series.weighting], str(dataset.StudyInstanceUID)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = _uid(f"{study}.{series.series_id}.{dataset.InstanceNumber}")
    dataset.StudyInstanceUID = _uid(study)
    dataset.SeriesInstanceUID = _uid(f"{study}.{series.series_id}")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.StudyID = ""
    dataset.PatientName = dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.SeriesNumber = list(_DESCRIPTIONS).index(series.kind) + 1
    dataset.PositionReferenceIndicator = ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.Modality = "MR"
    dataset.Manufacturer = "PHANTOM"
    dataset.StudyDescription = "MRI LUMBAR SPINE"
    dataset.SeriesDescription = dataset.ProtocolName = _DESCRIPTIONS[series.kind]
    dataset.BodyPartExamined = "LSPINE"
    dataset.ScanningSequence, dataset.SequenceVariant = "SE", "SK"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.SequenceName = f"*tse2d1_{timing.echoes}"
    dataset.RepetitionTime, dataset.EchoTime = timing.repetition_ms, timing.echo_ms
    dataset.EchoTrainLength, dataset.EchoNumbers = timing.echoes, 1
    dataset.MagneticFieldStrength = clinical.field_tesla
    dataset.FlipAngle = 150
    dataset.AcquisitionNumber = 1


def _uid(text: str) -> str:
    """A valid UID that depends on the text: made from a UUID (PS3.5 B.2)."""
    return f"2.25.{uuid5(NAMESPACE_OID, text).int}"
