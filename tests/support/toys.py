"""A score graph small enough to work out by hand, a bundle of it, and DICOM files for it.

The toy network looks at one thing only, the brightest pixel of each cell: the logit of class c is
``brightness * SLOPES[c] + OFFSETS[c]``. So every peak, place and probability that the runtime
must return can be computed in a few lines of numpy from the pixels themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pydicom
from onnx import parser
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)

from rsna_lumbar.runtime.bundle.manifest import write_manifest
from rsna_lumbar.runtime.bundle.records import Bundle, Detector, Model, ModelFile, Parity
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.core.preprocess import Preprocessing

SIZE_PX = 64
PRIOR_ROW = (0.6, 0.25, 0.15)
TOY_PARITY = Parity(
    reference="pytorch",
    source="toy",
    slices=1,
    rows=25,
    peak=0.0,
    probability=0.0,
    probability_p999=0.0,
    changed_rows=0,
    metric=(0.5, 0.5),
    device="cpu",
    hardware="none",
    ms_per_slice=1.0,
)
TOY_MODEL = Model(
    files=(ModelFile("toy.onnx", 64 * "0"),),
    backend="onnxruntime",
    target="any",
    precision="fp32",
    weights_sha256=64 * "0",
    engine=None,
    parity=TOY_PARITY,
)
LOWEST = "-3.0e38"

# Aggregation as the bundle's contract has it, on logits (N, C, A).
TOY_GRAPH = """
<ir_version: 9, opset_import: ["" : 18]>
toy (uint8[N, {size}, {size}] slices, bool[G, N] member, float[1] temperature, float[3] bias,
     float[1] floor, float[{locations}, 3] prior)
  => (float[G, {classes}] peak, float[G, {locations}, 3] probability,
      int64[G, {classes}] slice, int64[G, {classes}] cell)
  <float[1, {classes}, 1] slope = {{{slopes}}}, float[1, {classes}, 1] offset = {{{offsets}}},
   float white = {{255}}, float one = {{1}}, float lowest = {{{lowest}}}, int64 none = {{-1}},
   float zero = {{0}}, int64[1] axis1 = {{1}}, int64[1] axis2 = {{2}}, int64[1] axes2 = {{2}},
   int64[3] flat = {{0, 1, -1}}, int64[3] grades = {{0, {locations}, 3}}>
{{
  grey = Cast <to = 1> (slices)
  unit = Div (grey, white)
  image = Unsqueeze (unit, axis1)
  p3 = MaxPool <kernel_shape = [8, 8], strides = [8, 8]> (image)
  p4 = MaxPool <kernel_shape = [16, 16], strides = [16, 16]> (image)
  p5 = MaxPool <kernel_shape = [32, 32], strides = [32, 32]> (image)
  f3 = Reshape (p3, flat)
  f4 = Reshape (p4, flat)
  f5 = Reshape (p5, flat)
  cells = Concat <axis = 2> (f3, f4, f5)
  scaled = Mul (cells, slope)
  logits = Add (scaled, offset)
  slice_logit = ReduceMax <keepdims = 0> (logits, axis2)
  slice_cell = ArgMax <axis = 2, keepdims = 0> (logits)
  belongs = Unsqueeze (member, axes2)
  row = Unsqueeze (slice_logit, zero_axis)
  masked = Where (belongs, row, lowest)
  best = ReduceMax <keepdims = 0> (masked, axis1)
  where_best = ArgMax <axis = 1, keepdims = 0> (masked)
  cell_of_best = GatherElements <axis = 0> (slice_cell, where_best)
  counted = Cast <to = 6> (member)
  any_member = ReduceMax <keepdims = 1> (counted, axis1)
  filled = Cast <to = 9> (any_member)
  sigmoid = Sigmoid (best)
  peak = Where (filled, sigmoid, zero)
  slice = Where (filled, where_best, none)
  cell = Where (filled, cell_of_best, none)
  floored = Max (peak, floor)
  logged = Log (floored)
  cooled = Div (logged, temperature)
  three = Reshape (cooled, grades)
  biased = Add (three, bias)
  soft = Softmax <axis = 2> (biased)
  filled3 = Unsqueeze (filled, axes2)
  probability = Where (filled3, soft, prior)
}}
"""


def slopes(group: Group) -> np.ndarray:
    """(C,): how each class's logit grows with brightness."""
    return np.linspace(1.0, 6.0, len(group.classes)).astype(np.float32)


def offsets(group: Group) -> np.ndarray:
    """(C,): logit of each class on black."""
    return np.linspace(-2.0, -5.0, len(group.classes)).astype(np.float32)


def toy_model(group: Group, size_px: int = SIZE_PX) -> bytes:
    """The toy score graph of a group as ONNX."""
    text = TOY_GRAPH.format(
        size=size_px,
        classes=len(group.classes),
        locations=len(group.locations),
        slopes=", ".join(map(str, slopes(group))),
        offsets=", ".join(map(str, offsets(group))),
        lowest=LOWEST,
    ).replace("int64 none", "int64[1] zero_axis = {0}, int64 none")
    model = parser.parse_model(text)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_toy_bundle(
    folder: Path,
    calibration: Calibration | None = None,
    detectors: int = 1,
    groups: Sequence[Group] = GROUPS,
) -> Bundle:
    """Write a bundle of toy detectors; several a group make an ensemble of equals."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for group in groups:
        content = toy_model(group)
        sha256 = hashlib.sha256(content).hexdigest()
        file = f"{group.name}-onnxruntime-any-fp32-{sha256[:12]}.onnx"
        (folder / file).write_bytes(content)
        models = tuple(
            replace(TOY_MODEL, files=(ModelFile(file, sha256),), weights_sha256=f"{index:064x}")
            for index in range(detectors)
        )
        prior = (PRIOR_ROW,) * len(group.locations)
        made.append(
            Detector(group, SIZE_PX, calibration or Calibration(), prior, "maximum", models)
        )
    bundle = Bundle(tuple(made), Preprocessing(), "none", {"test": "1"})
    write_manifest(folder, bundle)
    return bundle


SAGITTAL = [0, 1, 0, 0, 0, -1]
AXIAL = [1, 0, 0, 0, 1, 0]
T1 = {"EchoTime": 10, "RepetitionTime": 600}
T2 = {"EchoTime": 100, "RepetitionTime": 3500}


def slice_pixels(seed: int, shape: tuple[int, int] = (48, 40)) -> np.ndarray:
    """12-bit noise with a bright spot, different for every seed."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 900, shape).astype(np.uint16)
    row, column = rng.integers(4, min(shape) - 4, 2)
    pixels[row - 2 : row + 2, column - 2 : column + 2] = rng.integers(1500, 4000)
    return pixels


def write_clinical_slice(path: Path, pixels: np.ndarray, **elements: object) -> FileDataset:
    """Write one MR slice with a clinical header, not the challenge's.

    Elements override or, where None, drop what is there.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(path)])
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    fields = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "MR",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "InstanceNumber": 1,
        "ImageOrientationPatient": SAGITTAL,
        "ImagePositionPatient": [0, 0, 0],
        "PixelSpacing": [5, 5],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 8 * pixels.dtype.itemsize,
        "HighBit": 8 * pixels.dtype.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **T2,
        "PixelData": pixels.tobytes(),
        **elements,
    }
    for keyword, value in fields.items():
        if value is not None:
            setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
)


def write_as(path: Path, pixels: np.ndarray, syntax: UID, **elements: object) -> Path:
    """Write one MR slice in a transfer syntax."""
    dataset = write_clinical_slice(path, pixels, **elements)
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
        return path
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    dataset["PixelData"].VR = "OW"
    fresh = Dataset({element.tag: element for element in dataset})
    fresh.file_meta = dataset.file_meta
    fresh.file_meta.TransferSyntaxUID = syntax
    fresh.save_as(path, enforce_file_format=True)
    return path


def write_clinical_study(
    images: Path, study_id: str, *, seed: int = 0, counts: tuple[int, int, int] = (3, 4, 5)
) -> None:
    """A study in the challenge's layout, with clinical headers: T2, T1 and axial series of so
    many slices.
    """
    kinds = (("11", SAGITTAL, T2), ("22", SAGITTAL, T1), ("33", AXIAL, T2))
    for index, ((series_id, orientation, times), count) in enumerate(
        zip(kinds, counts, strict=True)
    ):
        for number in range(1, count + 1):
            position = [4 * number, 0, 0] if orientation is SAGITTAL else [0, 0, -4 * number]
            write_clinical_slice(
                images / study_id / series_id / f"{number}.dcm",
                slice_pixels(1000 * seed + 100 * index + number),
                StudyInstanceUID=f"1.2.{study_id}",
                SeriesInstanceUID=f"1.2.{study_id}.{series_id}",
                InstanceNumber=number,
                ImageOrientationPatient=orientation,
                ImagePositionPatient=position,
                **times,
            )
