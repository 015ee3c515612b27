"""The method's own way from DICOM to submission, as its notebook does it, in a process of its own.

    dcmread, pixel_array -> min-max to 8 bits, three channels -> YOLO.predict on the list of a
    series' slices -> highest confidence of each class over boxes and slices -> pandas: highest over
    series, divided by the sum of the three grades -> to_csv

Nothing here is ours but the names of rows. The decoder is the one that pydicom picks by itself, the
resizing is ultralytics' own, and no class of a slice is cut off but by ``conf`` and ``max_det``.
A grade that no box shows has confidence 0; where all three have it, each gets a third.

    python -m rsna_lumbar.benchmarks.harness.method DATA --spinal a.pt \
        --foraminal b.pt --subarticular c.pt --output submission.csv \
        --record times.json [--image-size 384] [--threads N]
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsna_lumbar.runtime.system.entry_point import common_options, entry_point

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

CONFIDENCE = 1e-3  # the lowest of a box; what ultralytics' own validation uses
MOST_BOXES = 300  # of a slice
CHANNELS = 3


@dataclass(eq=False, slots=True)
class Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Add what happens inside to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def score_folder(
    data: Path, weights: Mapping[str, Path], output: Path, *, size_px: int, threads: int
) -> dict[str, float]:
    """Score the studies of a challenge root and write the submission.

    Args:
        data: holds ``test_images`` and ``test_series_descriptions.csv``.
        weights: name of the group -> checkpoint.
        output: CSV file.
        size_px: ``imgsz`` of ``predict``.
        threads: of PyTorch.

    Returns:
        Seconds by stage: import, load, decode, predict, rows.
    """
    clock = Clock()
    with clock.on("import"):
        from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

        prepare_third_party("bench")
        import pandas as pd
        import ultralytics.models  # noqa: F401

        from rsna_lumbar.runtime.core.labels import GROUP_BY_KIND
    with clock.on("load"):
        models = {name: _open(path, threads) for name, path in weights.items()}
    found = []
    table = pd.read_csv(data / "test_series_descriptions.csv", dtype=str)
    for study_id, series_id, kind in table.itertuples(index=False):
        with clock.on("decode"):
            images = read_series(data / "test_images" / study_id / series_id)
        with clock.on("predict"):
            peaks = predicted_peaks(models[GROUP_BY_KIND[kind].name], images, size_px=size_px)
        found += [(study_id, name, peak) for name, peak in peaks.items()]
    with clock.on("rows"):
        submission_of(found).to_csv(output, index=False)
    return clock.seconds


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
) -> dict[str, float]:
    """Class name -> its highest confidence over the boxes of all slices, 0 where it has none."""
    return highest(model, boxes_of(model, images, size_px=size_px))


def boxes_of(model: Any, images: list[NDArray[np.uint8]], *, size_px: int) -> list[Any]:
    """What ``predict`` finds on each slice."""
    found: list[Any] = model.predict(
        images,
        imgsz=size_px,
        conf=CONFIDENCE,
        max_det=MOST_BOXES,
        device="cpu",
        verbose=False,
    )
    return found


def highest(model: Any, results: list[Any]) -> dict[str, float]:
    """Class name -> its highest confidence in the results, 0 where it has none."""
    peaks = dict.fromkeys(model.names.values(), 0.0)
    for result in results:
        boxes = zip(result.boxes.cls.tolist(), result.boxes.conf.tolist(), strict=True)
        for class_index, confidence in boxes:
            name = result.names[int(class_index)]
            peaks[name] = max(peaks[name], confidence)
    return peaks


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


def _open(path: Path, threads: int) -> Any:
    import torch
    from ultralytics.models import YOLO

    model: Any = YOLO(path)
    # ultralytics takes one thread less than there are cores when it first predicts; with every
    # core it is faster, and it is the fastest way of it that is to be beaten.
    model.add_callback("on_predict_start", lambda _: torch.set_num_threads(threads))
    return model


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--spinal", type=click.Path(path_type=Path), required=True)
@click.option("--foraminal", type=click.Path(path_type=Path), required=True)
@click.option("--subarticular", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--record", type=click.Path(path_type=Path), required=True, help="Seconds by stage.")
@click.option("--image-size", type=int, default=384, show_default=True)
@click.option("--threads", type=int, required=True)
@common_options
def cli(
    data: Path,
    spinal: Path,
    foraminal: Path,
    subarticular: Path,
    output: Path,
    record: Path,
    image_size: int,
    threads: int,
) -> None:
    """Score DATA as the method's notebook does."""
    weights = {"spinal": spinal, "foraminal": foraminal, "subarticular": subarticular}
    seconds = score_folder(data, weights, output, size_px=image_size, threads=threads)
    record.write_text(json.dumps(seconds))


main = entry_point(cli, "method")

if __name__ == "__main__":
    main()
