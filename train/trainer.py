"""ultralytics' detection trainer, without what looks for the network or for a best epoch.

Importable by name, because with several GPUs ultralytics starts processes that import it.
Call :func:`rsna_lumbar.runtime.third_party.prepare_third_party` before importing this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import RANK, YAML
from ultralytics.utils.torch_utils import strip_optimizer


class LumbarTrainer(DetectionTrainer):
    """Trains on a folder that ``rsna-train prepare`` wrote."""

    def get_dataset(self) -> dict[str, Any]:
        """Read data.yaml. ultralytics' own reader would also look for a font on the internet."""
        file = Path(self.args.data)
        data = YAML.load(file)  # type: ignore[no-untyped-call]
        return {
            "path": file.parent,
            "train": str(file.parent / data["train"]),
            "val": str(file.parent / data["val"]),
            "channels": data["channels"],
            "names": data["names"],
            "nc": len(data["names"]),
            "yaml_file": str(file),
        }

    def final_eval(self) -> None:
        """Keep the last weights; they were validated in the last epoch already."""
        if RANK in {-1, 0}:
            strip_optimizer(self.last)
