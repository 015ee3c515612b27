"""The reference: the answers of the unmodified checkpoint in PyTorch float32.

Verification and the benchmarks compare every graph and backend with it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint

WHITE = 255
BOX_ROWS = 4  # of the decoded output (N, 4 + C, A)
BATCH_SIZE = 16


def reference_peaks(
    checkpoint: Checkpoint, slices: NDArray[np.uint8], batch_size: int = BATCH_SIZE
) -> NDArray[np.float32]:
    """Largest class score of each slice.

    Args:
        checkpoint: as loaded, with box branch and batch norms.
        slices: (N, S, S) uint8.

    Returns:
        (N, C) float32, classes in canonical order.
    """
    peaks = np.empty((len(slices), len(checkpoint.order)), np.float32)
    for start in range(0, len(slices), batch_size):
        part = slice(start, start + batch_size)
        with torch.inference_mode():
            grey = torch.from_numpy(slices[part])[:, None].to(torch.float32) / WHITE  # (N, 1, S, S)
            scores, _ = checkpoint.network(grey.expand(-1, checkpoint.channels, -1, -1))
            found = scores[:, BOX_ROWS:].amax(dim=2)  # (N, C) in the checkpoint's order
            peaks[part] = found[:, list(checkpoint.order)].numpy()
    return peaks
