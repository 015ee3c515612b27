"""The defect that side-safe flips avoid, for measuring it: ultralytics' own flip, classes as is.

Importable by name, as every trainer is; see :mod:`rsna_lumbar.train.fitting.trainer`.
"""

from __future__ import annotations

from ultralytics.data.dataset import YOLODataset

from rsna_lumbar.train.fitting.trainer import LumbarTrainer


class NaiveTrainer(LumbarTrainer):
    """Mirrors slices and leaves their classes alone: left becomes right without being told."""

    dataset_class = YOLODataset
