"""What surrounds the spine: outline, muscles, vessels and organs, in the order of painting.

These tell the patient's sides apart on one sagittal slice (liver and vena cava right, aorta,
stomach and spleen left) and the level on one axial slice (kidneys, vessels, psoas, iliac wings).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rsna_lumbar.train.phantom.anatomy.anatomy import NAMES, Spine
from rsna_lumbar.train.phantom.anatomy.solids import (
    AXES,
    HEIGHTS_MM,
    Block,
    Column,
    Ellipsoid,
    Frame,
    Solid,
    Table,
    solid,
    table,
)
from rsna_lumbar.train.phantom.anatomy.tissues import (
    BOWEL_FLUID,
    BOWEL_SOLID,
    BOWEL_WALL,
    CORTEX,
    DEEP_FAT,
    FASCIA,
    FAT,
    GAS,
    KIDNEY_CORTEX,
    KIDNEY_MEDULLA,
    LIVER,
    MUSCLE,
    PANCREAS,
    PSOAS,
    SKIN,
    VEIN,
    VESSEL,
    VESSEL_WALL,
    Tissue,
)

_SIDES = (1, -1)  # left, right
_L1 = float(NAMES.index("L1"))


def body_solids(spine: Spine, rng: np.random.Generator, marrow: Tissue) -> Iterator[Solid]:
    """From skin to vessels; the spine itself is painted over them."""
    yield from _outline(spine)
    yield from _organs(spine, rng)
    yield from _pelvis(spine, marrow)
    yield from _muscles(spine)
    yield from _vessels(spine)


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


def _fat_mm(spine: Spine) -> float:
    """Thickness of the subcutaneous fat over the sacrum."""
    return 14.0 + 26.0 * spine.fatness


def _wall_front(spine: Spine) -> Table:
    """y of the front of the abdominal wall's muscle."""
    return table(_front(spine) * 0.5 - 72 - 28 * spine.fatness)


def _ellipse(x: Table, front: Table, back: Table, half_x: Table) -> Column:
    return Column(x, table((front + back) / 2), half_x, table((back - front) / 2))


def _outline(spine: Spine) -> Iterator[Solid]:
    """Skin, subcutaneous fat, wall muscles and the fat inside."""
    fat = _fat_mm(spine)
    thick = _level(spine, (0, 2, 5, 7), (0.5 * fat, 0.7 * fat, fat, fat))
    back = table(_canal_back(spine) + 34 + thick)
    wall_front, wall_back = _wall_front(spine), table(_canal_back(spine) + 34)
    front = table(wall_front - 0.7 * fat)
    # An ellipse this wide is almost flat behind; the hollow of the back is left out.
    zero = table(0.0)
    yield solid(_ellipse(zero, front, back, table(190.0)), SKIN, (2.0, FAT))
    wall = _ellipse(zero, wall_front, wall_back, table(140.0))
    yield solid(wall, FASCIA, (1.5, MUSCLE))
    inside = _ellipse(zero, table(wall_front + 9), table(wall_back - 8), table(128.0))
    yield solid(inside, DEEP_FAT)


def _muscles(spine: Spine) -> Iterator[Solid]:
    """Psoas, quadratus lumborum, erector spinae and multifidus, growing downwards."""
    back = _canal_back(spine)
    psoas = _level(spine, (0.6, 1.5, 3, 4.5, 7), (2.0, 7.0, 14.0, 19.0, 17.0))
    reach = _level(spine, (0.6, 2, 3, 4.5, 5.5, 7), (24.0, 31.0, 37.0, 43.0, 50.0, 60.0))
    forward = _level(spine, (0.6, 3, 4.5, 7), (8.0, 3.0, -8.0, -35.0))
    erector = _level(spine, (-1, 2, 4, 5.5, 7.5), (21.0, 24.0, 22.0, 15.0, 8.0))
    for side in _SIDES:
        yield solid(
            Column(
                table(spine.body_x_mm + side * reach), table(spine.body_y_mm + forward),
                table(0.8 * psoas), psoas, top_mm=_height(spine, 0.6),
            ),
            PSOAS,
        )  # fmt: skip
        quadratus = Column(
            table(spine.body_x_mm + side * 62), table(spine.body_y_mm + 27),
            table(14.0), table(7.0),
            bottom_mm=_height(spine, 4.6), top_mm=_height(spine, 0.5),
        )  # fmt: skip
        yield solid(quadratus, MUSCLE)
        outer = Column(table(spine.canal.x_mm + side * 36), table(back + 12), table(27.0), erector)
        yield solid(outer, FASCIA, (0.9, MUSCLE))
        inner = _level(spine, (-1, 3, 5.5, 8), (8.0, 11.0, 15.0, 12.0))
        multifidus = Column(
            table(spine.canal.x_mm + side * (inner + 2)), table(back + 19), inner,
            table(0.0 * back + 15),
        )  # fmt: skip
        yield solid(multifidus, DEEP_FAT, (0.8, MUSCLE))


def _vessels(spine: Spine) -> Iterator[Solid]:
    """Aorta left, vena cava right; iliac vessels below L4."""
    front, x = _front(spine), spine.body_x_mm
    split, join = _height(spine, 4.3), _height(spine, 4.8)
    aorta = Column(table(x + 11), table(front - 12), table(8.5), table(8.5), bottom_mm=split)
    cava = Column(table(x - 16), table(front - 7), table(11.5), table(7.0), bottom_mm=join)
    apart = _level(spine, (4.2, 5, 6, 7.5), (7.0, 17.0, 32.0, 48.0))
    for side in _SIDES:
        artery = Column(
            table(x + 3 + side * apart), table(front - 11), table(5.8), table(5.8), top_mm=split + 3
        )
        yield solid(artery, VESSEL_WALL, (1.0, VESSEL))
        vein = Column(
            table(x - 4 + side * (apart + 4)), table(front - 4), table(7.0), table(5.0),
            top_mm=join + 3,
        )  # fmt: skip
        yield solid(vein, VESSEL_WALL, (0.8, VEIN))
    yield solid(cava, VESSEL_WALL, (0.8, VEIN))
    yield solid(aorta, VESSEL_WALL, (1.2, VESSEL))


def _organs(spine: Spine, rng: np.random.Generator) -> Iterator[Solid]:
    yield from _bowel(spine, rng)
    front = float(np.median(_front(spine)))
    liver = _upright(-72, front - 42, _height(spine, 0.2))
    yield solid(Ellipsoid(liver, (69.0, 62.0, 66.0)), FASCIA, (1.0, LIVER))
    caudate = _upright(-20, front - 26, _height(spine, 0.3))
    yield solid(Ellipsoid(caudate, (22.0, 20.0, 40.0)), FASCIA, (0.8, LIVER))
    stomach = _upright(48, front - 62, _height(spine, 0.4)).turned(1, 15)
    yield solid(Ellipsoid(stomach, (52.0, 32.0, 40.0)), BOWEL_WALL, (3.0, BOWEL_FLUID))
    bubble = _upright(44, front - 82, _height(spine, 0.3)).turned(1, 15)
    yield solid(Ellipsoid(bubble, (38.0, 12.0, 26.0)), GAS)
    pancreas = _upright(18, front - 34, _height(spine, 1.3))
    yield solid(Ellipsoid(pancreas, (48.0, 9.0, 10.0)), PANCREAS)
    for side, level in ((1, 1.7), (-1, 2.3)):
        yield from _kidney(spine, side, level + float(rng.normal(0, 0.1)))


def _kidney(spine: Spine, side: int, level: float) -> Iterator[Solid]:
    z = _height(spine, level)
    y = float(np.interp(z, HEIGHTS_MM, spine.body_y_mm)) - 2
    frame = _upright(side * 67, y, z).turned(1, side * 12).turned(2, side * 25)
    yield solid(
        Ellipsoid(frame, (25.0, 28.0, 54.0)), FASCIA, (0.8, KIDNEY_CORTEX), (8.0, KIDNEY_MEDULLA)
    )
    yield solid(Ellipsoid(frame.moved(-side * 9, 0, 0), (13.0, 9.0, 24.0)), DEEP_FAT)


def _bowel(spine: Spine, rng: np.random.Generator) -> Iterator[Solid]:
    """Small loops, most of them left; gas-filled colon right, in front of L3 to L5."""
    front = _front(spine)
    wall = table(_wall_front(spine) + 20)
    for _ in range(64):
        x = rng.uniform(-35, 95)
        z = _height(spine, float(rng.uniform(1.6, 6.5)))
        room = [float(np.interp(z, HEIGHTS_MM, side)) for side in (wall, front - 30)]
        frame = _upright(x, rng.uniform(min(room), room[1]), z).turned(1, rng.uniform(0, 180))
        filling = BOWEL_FLUID if rng.uniform() < 0.35 else BOWEL_SOLID
        radius = rng.uniform(8, 12)
        loop = Ellipsoid(frame, (radius * rng.uniform(1, 2.2), radius, radius))
        yield solid(loop, BOWEL_WALL, (2.0, filling))
    middle = float(np.median(front))
    for side, x, level in ((-1, -62, 3.6), (1, 84, 3.0)):
        colon = _upright(x, middle - 22, _height(spine, level)).turned(1, side * 5)
        size = 26.0 if side < 0 else 14.0
        yield solid(Ellipsoid(colon, (size, size, 55.0)), BOWEL_WALL, (2.5, BOWEL_SOLID))
        if side < 0:
            yield solid(Ellipsoid(colon.moved(0, -10, 0), (18.0, 9.0, 46.0)), GAS)


def _pelvis(spine: Spine, marrow: Tissue) -> Iterator[Solid]:
    """Iliac wings beside L5 and the sacrum, with muscle on both faces."""
    z = _height(spine, 6.3)
    y = float(np.interp(z, HEIGHTS_MM, spine.body_y_mm))
    for side in _SIDES:
        wing = _upright(side * 72, y + 2, z - 18).turned(1, side * 14).turned(2, side * 32)
        yield solid(Block(wing.moved(side * 14, 4, 0), (13.0, 44.0, 62.0), 9.0), MUSCLE)
        yield solid(Block(wing.moved(-side * 9, -12, 0), (8.0, 34.0, 58.0), 8.0), PSOAS)
        yield solid(Block(wing, (6.0, 46.0, 66.0), 5.0), CORTEX, (1.4, marrow))


def _upright(x: float, y: float, z: float) -> Frame:
    return Frame(np.array([x, y, z]), AXES)
