"""Random detectors of real size and their float32 graphs, made when they are first asked for."""

from __future__ import annotations

from pathlib import Path

from rsna_lumbar.benchmarks.model.engines import float32_graph
from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.export.checkpoints.synthetic import random_detector, save_checkpoint
from rsna_lumbar.runtime.core.labels import SUBARTICULAR
from rsna_lumbar.runtime.system.atomic_files import write_atomically

GROUP = SUBARTICULAR
CHANNELS = 3  # as the method's pretrained checkpoints have


def checkpoint_in(work: Path, scale: str) -> Checkpoint:
    """A YOLOv8 of that scale, the same whenever it is asked for.

    Args:
        work: folder that keeps it for the next job.
        scale: n, s, m, l or x.

    Raises:
        UsageError: torch or ultralytics is not installed.
    """
    path = work / f"yolov8{scale}.pt"
    if not path.exists():
        aside = path.with_suffix(".part")  # a job may be ended at any moment
        save_checkpoint(random_detector(GROUP, scale=scale, channels=CHANNELS), aside)
        aside.rename(path)
    return read_checkpoint(path, GROUP)


def graph_in(work: Path, scale: str, checkpoint: Checkpoint, size_px: int) -> bytes:
    """Its float32 score graph."""
    path = work / f"yolov8{scale}-{size_px}.onnx"
    if not path.exists():
        write_atomically(path, float32_graph(checkpoint, size_px))
    return path.read_bytes()
