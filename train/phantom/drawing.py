"""Paint solids on a slice: soft edges, later solids over earlier ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rsna_lumbar.train.phantom.anatomy.plane import Field, Plane, Window
from rsna_lumbar.train.phantom.anatomy.solids import Solid

_EDGE_PX = 1.4  # width of an edge: a point spread of about a pixel
_EDGE_MM = 0.8  # least width of an edge: thick slices average over oblique surfaces


@dataclass(frozen=True, eq=False, slots=True)
class Scene:
    """Solids in the order of painting, with their bounding boxes for culling."""

    solids: tuple[Solid, ...]
    centres_mm: npt.NDArray[np.float64]  # (solids, 3)
    halves_mm: npt.NDArray[np.float64]  # (solids, 3)


def make_scene(solids: Iterable[Solid]) -> Scene:
    """A scene of at least one solid."""
    kept = tuple(solids)
    boxes = [solid.shape.bounds() for solid in kept]
    return Scene(kept, np.array([box[0] for box in boxes]), np.array([box[1] for box in boxes]))


def paint(scene: Scene, plane: Plane, weighting: str, texture: Field) -> Field:
    """Noise-free signal of a slice, (rows, columns) float32, 0 in air.

    ``texture`` (rows, columns) has unit variance; tissues differ in how much of it they show.
    """
    image = np.zeros((plane.rows, plane.columns), np.float32)
    edge = max(_EDGE_PX * plane.spacing_mm, _EDGE_MM)
    for solid, window in _visible(scene, plane, edge):
        _paint_solid(image, solid, window, weighting, texture, np.float32(edge))
    return image


def _paint_solid(
    image: Field, solid: Solid, window: Window, weighting: str, texture: Field, edge: np.float32
) -> None:
    depth = 0.5 - solid.shape.distance(window) / edge
    deepest_mm = depth.max() * edge
    part = image[window.row, window.column]
    uneven = texture[window.row, window.column]
    for start_mm, tissue in solid.layers:
        if deepest_mm <= start_mm:
            return
        share = np.minimum(np.maximum(depth - np.float32(start_mm) / edge, 0), 1)
        signal = np.float32(tissue.signal(weighting))
        part += share * (signal + signal * np.float32(tissue.texture) * uneven - part)


def _visible(scene: Scene, plane: Plane, margin_mm: float) -> Iterable[tuple[Solid, Window]]:
    """Solids whose box meets the plane, each with the pixels that its box covers."""
    axes = np.stack([plane.along_column, plane.along_row, plane.normal])
    middle = (scene.centres_mm - plane.origin_mm) @ axes.T  # (solids, 3): row, column, off-plane
    half = scene.halves_mm @ np.abs(axes).T + margin_mm
    first = np.ceil((middle - half)[:, :2] / plane.spacing_mm).astype(int)
    last = np.floor((middle + half)[:, :2] / plane.spacing_mm).astype(int) + 1
    first = np.maximum(first, 0)
    last = np.minimum(last, (plane.rows, plane.columns))
    seen = (np.abs(middle[:, 2]) <= half[:, 2]) & (first < last).all(axis=1)
    for i in np.flatnonzero(seen):
        rows, columns = (slice(int(a), int(b)) for a, b in zip(first[i], last[i], strict=True))
        yield scene.solids[i], Window(plane, rows, columns)
