"""Prepared data sets made by hand: a few small slices, as ``rsna-train prepare`` lays them out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from rsna_lumbar.runtime.core.labels import SPINAL, Group

SIZE_PX = 64


def write_data_yaml(folder: Path, group: Group) -> None:
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(group.classes))
    (folder / "data.yaml").write_text(
        f"train: images/train\nval: images/val\nchannels: 1\nnames:\n{names}"
    )


def write_data(folder: Path, images: dict[str, int]) -> Path:
    """A data set of bright squares; the class is told by the row."""
    rng = np.random.default_rng(0)
    for part, count in images.items():
        (folder / "images" / part).mkdir(parents=True)
        (folder / "labels" / part).mkdir(parents=True)
        for index in range(count):
            picture = rng.integers(0, 60, (SIZE_PX, SIZE_PX), np.uint8)
            row = 8 + 10 * (index % 5)
            picture[row - 4 : row + 4, 28:36] = 250
            Image.fromarray(picture).save(folder / "images" / part / f"{index}.png")
            line = f"{3 * (index % 5)} 0.5 {row / SIZE_PX:.6f} 0.25 0.25\n"
            (folder / "labels" / part / f"{index}.txt").write_text(line)
    write_data_yaml(folder, SPINAL)
    card = {
        "group": "spinal",
        "size_px": SIZE_PX,
        "preprocessing": {"low_percentile": 0.5, "high_percentile": 99.5, "pad_value": 114},
        "prior": [[0.6, 0.2, 0.2]] * 5,
        "split": {"seed": 0},
        "images": images,
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder
