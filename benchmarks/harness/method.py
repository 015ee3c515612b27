r"""The method's own way from DICOM to submission, as its notebook does it, in a separate process.

    dcmread, pixel_array -> min-max to 8 bits, three channels -> YOLO.predict on the list of a
    series' slices -> highest confidence of each class over boxes and slices -> pandas: highest over
    series, divided by the sum of the three grades -> to_csv

Only the names of rows are this project's. pydicom chooses the decoder, ultralytics resizes, and
only ``conf`` and ``max_det`` exclude classes of a slice. A grade without a box has confidence 0; if
all three have it, each gets a third.

    python -m rsna_lumbar.benchmarks.harness.method DATA SUBMISSION.csv STAGES.json \
        SIZE_PX THREADS SPINAL.pt FORAMINAL.pt SUBARTICULAR.pt

DATA contains ``test_images`` and ``test_series_descriptions.csv``. STAGES.json gets the seconds of
each stage: import, load, decode, predict, rows.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

CONFIDENCE = 1e-3  # lowest of a box, as in ultralytics' own validation
MOST_BOXES = 300  # of a slice
CHANNELS = 3  # of the method's pretrained checkpoints


def main(words: list[str]) -> None:
    """Score a root and write both files."""
    data, submission, record, size_px, threads, *weights = words
    seconds: defaultdict[str, float] = defaultdict(float)
    with _stage("import", seconds):
        from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

        prepare_third_party("bench")
        import pandas as pd
        import ultralytics.models  # noqa: F401

        from rsna_lumbar.runtime.core.labels import GROUPS
    with _stage("load", seconds):
        models = {
            group.series_kind: open_predictor(Path(path), int(threads))
            for group, path in zip(GROUPS, weights, strict=True)
        }
    found = []
    table = pd.read_csv(Path(data) / "test_series_descriptions.csv", dtype=str)
    for study_id, series_id, kind in table.itertuples(index=False):
        with _stage("decode", seconds):
            images = read_series(Path(data) / "test_images" / study_id / series_id)
        with _stage("predict", seconds):
            peaks, _ = predicted_peaks(models[kind], images, size_px=int(size_px))
        found += [(study_id, name, peak) for name, peak in peaks.items()]
    with _stage("rows", seconds):
        submission_of(found).to_csv(submission, index=False)
    Path(record).write_text(json.dumps(seconds))


def open_predictor(path: Path, threads: int) -> Any:
    """The YOLO of a checkpoint that predicts with so many threads of PyTorch."""
    import torch
    from ultralytics.models import YOLO

    model: Any = YOLO(path)
    # The first predict sets PyTorch, in the whole process, to one thread less than there are cores.
    model.add_callback("on_predict_start", lambda _: torch.set_num_threads(threads))
    return model


def read_series(folder: Path) -> list[NDArray[np.uint8]]:
    """Slices of a series by instance number, each (rows, columns, 3) uint8."""
    import numpy as np
    import pydicom

    images = []
    for path in sorted(folder.glob("*.dcm"), key=lambda path: int(path.stem)):
        pixels = pydicom.dcmread(path).pixel_array.astype(np.float32)
        pixels = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-6) * 255
        images.append(np.stack([pixels.astype(np.uint8)] * CHANNELS, axis=-1))
    return images


def predicted_peaks(
    model: Any, images: list[NDArray[np.uint8]], *, size_px: int
) -> tuple[dict[str, float], int]:
    """Predict slices.

    Returns:
        Class name -> its highest confidence over the boxes of all slices, 0 without a box; and the
        number of boxes.
    """
    peaks, count = dict.fromkeys(model.names.values(), 0.0), 0
    for result in model.predict(
        images,
        imgsz=size_px,
        conf=CONFIDENCE,
        max_det=MOST_BOXES,
        device="cpu",
        verbose=False,
    ):
        count += len(result.boxes)
        boxes = zip(result.boxes.cls.tolist(), result.boxes.conf.tolist(), strict=True)
        for class_index, confidence in boxes:
            name = result.names[int(class_index)]
            peaks[name] = max(peaks[name], confidence)
    return peaks, count


def submission_of(found: list[tuple[str, str, float]]) -> pd.DataFrame:
    """(study id, class name, peak) of every series -> the submission, sorted by row id."""
    import pandas as pd

    from rsna_lumbar.runtime.core.labels import GRADES

    peaks = pd.DataFrame(found, columns=["study_id", "name", "peak"])
    peaks = peaks.groupby(["study_id", "name"])["peak"].max().reset_index()
    parts = peaks["name"].str.extract(f"(?P<location>.+)_(?P<grade>{'|'.join(GRADES)})$")
    peaks["row_id"] = peaks["study_id"] + "_" + parts["location"]
    peaks["grade"] = parts["grade"]
    rows = peaks.pivot(index="row_id", columns="grade", values="peak")[list(GRADES)]
    total = rows.sum(axis=1)
    rows = rows.div(total.where(total > 0, 1.0), axis=0)
    rows[total == 0] = 1 / len(GRADES)
    return rows.sort_index().reset_index()


@contextmanager
def _stage(name: str, seconds: defaultdict[str, float]) -> Iterator[None]:
    """Add the time of the context to a stage."""
    start = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1:])
