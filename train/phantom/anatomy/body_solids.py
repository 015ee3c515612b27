"""What surrounds the spine: outline, muscles, vessels and organs, in the order of painting.

They show the patient's sides on one sagittal slice (liver and vena cava right; aorta, stomach and
spleen left) and the level on one axial slice (kidneys, vessels, psoas, iliac wings).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rsna_lumbar.train.phantom.anatomy import tissues
from rsna_lumbar.train.phantom.anatomy.anatomy import NAMES, Spine
from rsna_lumbar.train.phantom.anatomy.solids import (
    AXES,
    HEIGHTS_MM,
    Block,
    Ellipsoid,
    Frame,
    Layers,
    Solid,
    Table,
    column,
    table,
)
from rsna_lumbar.train.phantom.anatomy.tissues import Tissue

_SIDES = (1, -1)  # left, right
_L1 = float(NAMES.index("L1"))

_MUSCLE: Layers = ((0.0, tissues.FASCIA), (0.9, tissues.MUSCLE))
_ARTERY: Layers = ((0.0, tissues.VESSEL_WALL), (1.0, tissues.VESSEL))
_VEIN: Layers = ((0.0, tissues.VESSEL_WALL), (0.8, tissues.VEIN))
_COLON: Layers = ((0.0, tissues.BOWEL_WALL), (2.5, tissues.BOWEL_SOLID))
_KIDNEY: Layers = (
    (0.0, tissues.FASCIA), (0.8, tissues.KIDNEY_CORTEX), (8.0, tissues.KIDNEY_MEDULLA),
)  # fmt: skip


class _Organ(NamedTuple):
    """An ellipsoid; its centre is given by x, the distance behind the bodies' front, and level."""

    x_mm: float
    behind_mm: float
    level: float  # 1 is the middle of L1
    turn: float  # degrees about the posterior axis
    radii_mm: tuple[float, float, float]
    layers: Layers


_ORGANS = (
    # liver, its caudate lobe, stomach, the gas in it, pancreas
    _Organ(-72, -42, 0.2, 0, (69.0, 62.0, 66.0), ((0.0, tissues.FASCIA), (1.0, tissues.LIVER))),
    _Organ(-20, -26, 0.3, 0, (22.0, 20.0, 40.0), ((0.0, tissues.FASCIA), (0.8, tissues.LIVER))),
    _Organ(48, -62, 0.4, 15, (52.0, 32.0, 40.0),
           ((0.0, tissues.BOWEL_WALL), (3.0, tissues.BOWEL_FLUID))),
    _Organ(44, -82, 0.3, 15, (38.0, 12.0, 26.0), ((0.0, tissues.GAS),)),
    _Organ(18, -34, 1.3, 0, (48.0, 9.0, 10.0), ((0.0, tissues.PANCREAS),)),
)  # fmt: skip


def body_solids(spine: Spine, rng: np.random.Generator, marrow: Tissue) -> Iterator[Solid]:
    """From skin to vessels; the spine is painted over them."""
    yield from _outline(spine)
    yield from _bowel(spine, rng)
    yield from _organs(spine, rng)
    yield from _pelvis(spine, marrow)
    yield from _muscles(spine)
    yield from _vessels(spine)


def plain_body(spine: Spine) -> Iterator[Solid]:
    """Skin, fat and muscles behind the spine, alike on both sides and at every level."""
    fat, back, front = 14.0 + 26.0 * spine.fatness, _canal_back(spine), _front(spine)
    for before, behind, half_width, layers in (
        (100.0, 34 + fat, 190.0, ((0.0, tissues.SKIN), (2.0, tissues.FAT))),
        (85.0, 34.0, 140.0, ((0.0, tissues.FASCIA), (1.5, tissues.MUSCLE))),
        (76.0, 26.0, 128.0, ((0.0, tissues.DEEP_FAT),)),
    ):
        middle, half = (front - before + back + behind) / 2, (back + behind - front + before) / 2
        yield Solid(column(0.0, table(middle), half_width, table(half)), layers)
    for side in _SIDES:
        yield Solid(column(spine.body_x_mm + side * 37, spine.body_y_mm, 11.0, 14.0),
                    ((0.0, tissues.PSOAS),))  # fmt: skip
        yield Solid(column(spine.canal.x_mm + side * 36, back + 12, 27.0, 20.0), _MUSCLE)
        multifidus = column(spine.canal.x_mm + side * 14, back + 19, 12.0, 15.0)
        yield Solid(multifidus, ((0.0, tissues.DEEP_FAT), (0.8, tissues.MUSCLE)))


def _level(spine: Spine, levels: tuple[float, ...], values: tuple[float, ...]) -> Table:
    """A quantity given at vertebrae (1 is the middle of L1, 5 of L5, 6 of S1), at all heights."""
    return table(np.interp(spine.vertebra_at - _L1 + 1, levels, values))


def _height(spine: Spine, level: float) -> float:
    """z of a continuous vertebra number (1 is the middle of L1)."""
    return float(HEIGHTS_MM[int(np.argmin(np.abs(spine.vertebra_at - _L1 + 1 - level)))])


def _canal_back(spine: Spine) -> Table:
    return table(spine.canal.y_mm + spine.canal.half_depth_mm)


def _front(spine: Spine) -> Table:
    """y of the front of the bodies."""
    return table(spine.body_y_mm - spine.body_half_depth_mm)


def _wall_front(spine: Spine) -> Table:
    """y of the front of the abdominal wall's muscle."""
    return table(_front(spine) * 0.5 - 72 - 28 * spine.fatness)


def _outline(spine: Spine) -> Iterator[Solid]:
    """Skin, subcutaneous fat, wall muscles and the fat inside."""
    fat = 14.0 + 26.0 * spine.fatness  # thickness over the sacrum
    thick = _level(spine, (0, 2, 5, 7), (0.5 * fat, 0.7 * fat, fat, fat))
    back = table(_canal_back(spine) + 34 + thick)
    wall_front, wall_back = _wall_front(spine), table(_canal_back(spine) + 34)
    # An ellipse this wide is almost flat at the back; the hollow of the back is not drawn.
    for front, rear, half_width, layers in (
        (table(wall_front - 0.7 * fat), back, 190.0, ((0.0, tissues.SKIN), (2.0, tissues.FAT))),
        (wall_front, wall_back, 140.0, ((0.0, tissues.FASCIA), (1.5, tissues.MUSCLE))),
        (table(wall_front + 9), table(wall_back - 8), 128.0, ((0.0, tissues.DEEP_FAT),)),
    ):
        yield Solid(column(0.0, (front + rear) / 2, half_width, (rear - front) / 2), layers)


def _muscles(spine: Spine) -> Iterator[Solid]:
    """Psoas, quadratus lumborum, erector spinae and multifidus, growing downwards."""
    back, body_x, body_y = _canal_back(spine), spine.body_x_mm, spine.body_y_mm
    psoas = _level(spine, (0.6, 1.5, 3, 4.5, 7), (2.0, 7.0, 14.0, 19.0, 17.0))
    reach = _level(spine, (0.6, 2, 3, 4.5, 5.5, 7), (24.0, 31.0, 37.0, 43.0, 50.0, 60.0))
    forward = _level(spine, (0.6, 3, 4.5, 7), (8.0, 3.0, -8.0, -35.0))
    erector = _level(spine, (-1, 2, 4, 5.5, 7.5), (21.0, 24.0, 22.0, 15.0, 8.0))
    inner = _level(spine, (-1, 3, 5.5, 8), (8.0, 11.0, 15.0, 12.0))
    bottom, top = _height(spine, 4.6), _height(spine, 0.5)
    for side in _SIDES:
        front = column(body_x + side * reach, body_y + forward, 0.8 * psoas, psoas,
                       top_mm=_height(spine, 0.6))  # fmt: skip
        yield Solid(front, ((0.0, tissues.PSOAS),))
        quadratus = column(body_x + side * 62, body_y + 27, 14.0, 7.0,
                           bottom_mm=bottom, top_mm=top)  # fmt: skip
        yield Solid(quadratus, ((0.0, tissues.MUSCLE),))
        yield Solid(column(spine.canal.x_mm + side * 36, back + 12, 27.0, erector), _MUSCLE)
        multifidus = column(spine.canal.x_mm + side * (inner + 2), back + 19, inner, 15.0)
        yield Solid(multifidus, ((0.0, tissues.DEEP_FAT), (0.8, tissues.MUSCLE)))


def _vessels(spine: Spine) -> Iterator[Solid]:
    """Aorta left, vena cava right; iliac vessels below L4."""
    front, x = _front(spine), spine.body_x_mm
    split, join = _height(spine, 4.3), _height(spine, 4.8)
    apart = _level(spine, (4.2, 5, 6, 7.5), (7.0, 17.0, 32.0, 48.0))
    for side in _SIDES:
        artery = column(x + 3 + side * apart, front - 11, 5.8, 5.8, top_mm=split + 3)
        yield Solid(artery, _ARTERY)
        vein = column(x - 4 + side * (apart + 4), front - 4, 7.0, 5.0, top_mm=join + 3)
        yield Solid(vein, _VEIN)
    yield Solid(column(x - 16, front - 7, 11.5, 7.0, bottom_mm=join), _VEIN)
    aorta = column(x + 11, front - 12, 8.5, 8.5, bottom_mm=split)
    yield Solid(aorta, ((0.0, tissues.VESSEL_WALL), (1.2, tissues.VESSEL)))


def _organs(spine: Spine, rng: np.random.Generator) -> Iterator[Solid]:
    front = float(np.median(_front(spine)))
    for organ in _ORGANS:
        frame = _upright(organ.x_mm, front + organ.behind_mm, _height(spine, organ.level))
        yield Solid(Ellipsoid(frame.turned(1, organ.turn), organ.radii_mm), organ.layers)
    for side, level in ((1, 1.7), (-1, 2.3)):
        z = _height(spine, level + float(rng.normal(0, 0.1)))
        y = float(np.interp(z, HEIGHTS_MM, spine.body_y_mm)) - 2
        frame = _upright(side * 67, y, z).turned(1, side * 12).turned(2, side * 25)
        yield Solid(Ellipsoid(frame, (25.0, 28.0, 54.0)), _KIDNEY)
        hilum = Ellipsoid(frame.moved(-side * 9, 0, 0), (13.0, 9.0, 24.0))
        yield Solid(hilum, ((0.0, tissues.DEEP_FAT),))


def _bowel(spine: Spine, rng: np.random.Generator) -> Iterator[Solid]:
    """Small loops, most of them left; gas-filled colon right, in front of L3 to L5."""
    front = _front(spine)
    wall = table(_wall_front(spine) + 20)
    for _ in range(64):
        x = rng.uniform(-35, 95)
        z = _height(spine, float(rng.uniform(1.6, 6.5)))
        room = [float(np.interp(z, HEIGHTS_MM, side)) for side in (wall, front - 30)]
        frame = _upright(x, rng.uniform(min(room), room[1]), z).turned(1, rng.uniform(0, 180))
        filling = tissues.BOWEL_FLUID if rng.uniform() < 0.35 else tissues.BOWEL_SOLID
        radius = rng.uniform(8, 12)
        loop = Ellipsoid(frame, (radius * rng.uniform(1, 2.2), radius, radius))
        yield Solid(loop, ((0.0, tissues.BOWEL_WALL), (2.0, filling)))
    middle = float(np.median(front))
    right = _upright(-62, middle - 22, _height(spine, 3.6)).turned(1, -5)
    yield Solid(Ellipsoid(right, (26.0, 26.0, 55.0)), _COLON)
    yield Solid(Ellipsoid(right.moved(0, -10, 0), (18.0, 9.0, 46.0)), ((0.0, tissues.GAS),))
    left = _upright(84, middle - 22, _height(spine, 3.0)).turned(1, 5)
    yield Solid(Ellipsoid(left, (14.0, 14.0, 55.0)), _COLON)


def _pelvis(spine: Spine, marrow: Tissue) -> Iterator[Solid]:
    """Iliac wings beside L5 and the sacrum, with muscle on both faces."""
    z = _height(spine, 6.3)
    y = float(np.interp(z, HEIGHTS_MM, spine.body_y_mm))
    for side in _SIDES:
        wing = _upright(side * 72, y + 2, z - 18).turned(1, side * 14).turned(2, side * 32)
        outside = Block(wing.moved(side * 14, 4, 0), (13.0, 44.0, 62.0), 9.0)
        yield Solid(outside, ((0.0, tissues.MUSCLE),))
        inside = Block(wing.moved(-side * 9, -12, 0), (8.0, 34.0, 58.0), 8.0)
        yield Solid(inside, ((0.0, tissues.PSOAS),))
        yield Solid(Block(wing, (6.0, 46.0, 66.0), 5.0), ((0.0, tissues.CORTEX), (1.4, marrow)))


def _upright(x: float, y: float, z: float) -> Frame:
    return Frame(np.array([x, y, z]), AXES)
