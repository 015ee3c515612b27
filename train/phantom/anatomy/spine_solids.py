"""Bones, discs, canal, foramina and lateral recesses as solids, in the order they are painted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rsna_lumbar.runtime.core.labels import FORAMINAL, SUBARTICULAR
from rsna_lumbar.train.phantom.anatomy import tissues
from rsna_lumbar.train.phantom.anatomy.anatomy import Disc, Spine, Vertebra, side_of
from rsna_lumbar.train.phantom.anatomy.plane import Vector
from rsna_lumbar.train.phantom.anatomy.solids import (
    HEIGHTS_MM,
    Barrel,
    Block,
    Ellipsoid,
    Frame,
    Layers,
    Solid,
    Table,
    Union,
    column,
)
from rsna_lumbar.train.phantom.anatomy.tissues import Tissue

_CORTEX_MM = 1.1
_SIDES = (1, -1)  # left, right
_LIGAMENT: Layers = ((0.0, tissues.LIGAMENT),)
_FAT: Layers = ((0.0, tissues.EPIDURAL_FAT),)
_FLUID: Layers = ((0.0, tissues.CSF),)
_ROOT: Layers = ((0.0, tissues.ROOT),)
# Roots in the sac: share of its half width, share of its half depth (positive is posterior).
_ROOTS = (
    (0.02, 0.62), (-0.17, 0.66), (0.19, 0.6), (-0.33, 0.5), (0.36, 0.52), (-0.5, 0.38),
    (0.52, 0.33), (-0.64, 0.12), (0.65, 0.1), (0.1, 0.4), (-0.24, 0.33), (0.3, 0.28),
)  # fmt: skip


def spine_solids(spine: Spine, marrow: Tissue) -> Iterator[Solid]:
    """In the order of painting: later solids cover earlier ones."""
    bone: Layers = ((0.0, tissues.CORTEX), (_CORTEX_MM, marrow))
    canal = spine.canal
    ligament = column(canal.x_mm, canal.y_mm + canal.half_depth_mm + 15, 3.5, 19.0)
    yield Solid(ligament, ((0.0, tissues.INTERSPINOUS),))  # and fat, between spinous processes
    for disc in spine.discs:
        yield _disc(disc)
    for vertebra in spine.vertebrae:
        yield from _arch(vertebra, bone)
    for vertebra in spine.vertebrae:
        if vertebra.name.startswith("S"):
            yield from _sacral_ala(vertebra, bone)
    for vertebra in spine.vertebrae:
        half = (vertebra.width_mm / 2, vertebra.wall_mm, vertebra.height_mm / 2)
        yield Solid(Barrel(vertebra.frame, half, waist=0.1, hollow=0.1), bone)
        vein = vertebra.frame.moved(0, vertebra.wall_mm - 4, 0)
        yield Solid(Ellipsoid(vein, (5.0, 5.5, 2.0)), ((0.0, tissues.BASIVERTEBRAL),))
        yield from _pedicles(vertebra, bone)
    lumbar = [(disc, disc.level) for disc in spine.discs if disc.level is not None]
    for disc, _ in lumbar:
        yield from _facets(disc, bone)
    yield from _canal(spine)
    for disc, level in lumbar:
        yield from _foramina(spine, disc, level)
        yield from _recesses(spine, disc, level)


def recess_point(disc: Disc, side: int) -> Vector:
    """Middle of a lateral recess, at the disc's height."""
    return disc.frame.point(side * (disc.pedicle_mm - 6.0), disc.wall_mm + 5.0, 0.0)


def foramen_point(disc: Disc, side: int) -> Vector:
    """Middle of a foramen: between the pedicles, behind the upper edge of the disc."""
    return disc.frame.point(side * (disc.pedicle_mm + 1.5), disc.wall_mm + 5.5, 5.0)


def _disc(disc: Disc) -> Solid:
    # Taller than the gap: the bodies are painted over it and leave the wedge of the lordosis.
    half = (disc.width_mm / 2 + 0.5, disc.wall_mm + 0.5, disc.height_mm / 2 + 4)
    bright = 0.75 - 0.62 * disc.degeneration
    nucleus = Tissue(0.37, bright, 0.06)
    between = Tissue(0.33, 0.5 * (bright + 0.12), 0.06)
    annulus = Tissue(0.27, 0.12)
    return Solid(Barrel(disc.frame, half), ((0.0, annulus), (4.0, between), (6.0, nucleus)))


def _arch(vertebra: Vertebra, bone: Layers) -> Iterator[Solid]:
    """Laminae, spinous process and transverse processes; of the sacrum, a crest only."""
    sacral = vertebra.name.startswith("S")
    canal_back = vertebra.wall_mm + 19.5
    long, tall = (7.0, 6.0) if sacral else (14.0, 9.5)
    spinous = vertebra.frame.moved(0, canal_back + long, -9).turned(0, -8)
    yield Solid(Block(spinous, (3.2, long, tall), 3.0), bone)
    for side in _SIDES:
        lamina = vertebra.frame.moved(side * 8.5, canal_back + 0.5, -8).turned(2, -side * 30)
        yield Solid(Block(lamina, (11.0, 3.2, 9.0), 3.0), bone)
        if not sacral:
            reach = vertebra.pedicle_mm + 13
            process = vertebra.frame.moved(side * reach, vertebra.wall_mm + 9, 3)
            yield Solid(Block(process.turned(2, side * 12), (14.0, 3.2, 4.5), 3.0), bone)


def _pedicles(vertebra: Vertebra, bone: Layers) -> Iterator[Solid]:
    half_width = 4.2 + 0.25 * (vertebra.pedicle_mm - 13)
    for side in _SIDES:
        frame = vertebra.frame.moved(side * vertebra.pedicle_mm, vertebra.wall_mm + 4, 5)
        yield Solid(Block(frame, (half_width, 11.0, 7.2), 4.0), bone)
        # Pars: from the pedicle down and back to the lower facet.
        reach = side * (vertebra.pedicle_mm - 0.5)
        pars = vertebra.frame.moved(reach, vertebra.wall_mm + 16, -4).turned(0, -12)
        yield Solid(Block(pars, (5.0, 4.5, 13.0), 4.0), bone)


def _sacral_ala(vertebra: Vertebra, bone: Layers) -> Iterator[Solid]:
    for side in _SIDES:
        reach = vertebra.width_mm / 2 + 10
        frame = vertebra.frame.moved(side * reach, 4, 0).turned(2, side * 18)
        yield Solid(Block(frame, (24.0, 14.0, vertebra.height_mm / 2 + 1), 6.0), bone)


def _facets(disc: Disc, bone: Layers) -> Iterator[Solid]:
    """Upper process of the lower vertebra in front, lower process of the upper one behind."""
    for side in _SIDES:
        joint = disc.frame.moved(side * (disc.pedicle_mm + 1), disc.wall_mm + 16, 0)
        joint = joint.turned(2, side * 40)
        yield Solid(Block(joint.moved(0, -4.6, 2), (6.5, 4.2, 11.0), 3.8), bone)
        yield Solid(Block(joint.moved(0, 5.2, -3), (6.5, 4.6, 10.0), 4.0), bone)
        yield Solid(Ellipsoid(joint, (6.5, 0.9, 9.0)), ((0.0, tissues.CARTILAGE),))


def _canal(spine: Spine) -> Iterator[Solid]:
    """Ligaments, epidural fat, dura, fluid, cord and roots."""
    canal = spine.canal
    yield Solid(column(canal.x_mm, canal.y_mm + 1, 12.5, canal.half_depth_mm + 3.5), _LIGAMENT)
    middle, half = (canal.front_mm + canal.back_mm) / 2, (canal.back_mm - canal.front_mm) / 2
    # Fat: a thin coat, and a pad behind the sac between the laminae.
    pad = 2.2 * canal.disc_nearness * (1 - canal.narrowing) ** 2 * canal.slope
    coat = 0.8 + 1.5 * np.clip(spine.vertebra_at - 6, 0, 3)
    half_width = canal.half_width_mm
    fat = column(canal.x_mm, middle + pad / 2, half_width + 1.2, half + coat + pad / 2)
    yield Solid(fat, _FAT)
    sac = column(canal.x_mm, middle, half_width + 0.4, half + 0.4)
    yield Solid(sac, (*_LIGAMENT, (0.7, tissues.CSF)))
    yield from _cauda(spine, middle, half)


def _cauda(spine: Spine, middle: Table, half: Table) -> Iterator[Solid]:
    """Roots in the back of the sac, and the conus down to the L1/L2 disc."""
    canal = spine.canal
    end = float(spine.disc("l1_l2").frame.origin_mm[2]) + 4
    above = np.clip((HEIGHTS_MM - end) / 35, 0.02, 1) ** 0.6
    thick = np.minimum(0.75, 0.25 * half + 0.1)
    for across, back in _ROOTS:
        x = canal.x_mm + np.float32(across) * canal.half_width_mm
        y = middle + np.float32(back) * half
        yield Solid(column(x, y, 0.75, thick, top_mm=end + 12), _ROOT)
    thin = np.minimum(3.6 * above, half * 0.8)
    cord = column(canal.x_mm, middle + 0.1 * half, 4.6 * above, thin, bottom_mm=end)
    yield Solid(cord, ((0.0, tissues.CORD),))


def _recesses(spine: Spine, disc: Disc, level: str) -> Iterator[Solid]:
    """Ligament in the corner of the canal, and the room in it for the root."""
    for condition in SUBARTICULAR.conditions:
        side, severity = side_of(condition), spine.findings.severity(condition, level)
        offset = disc.frame.axes @ (recess_point(disc, side) - disc.frame.origin_mm)
        frame = disc.frame.moved(*map(float, offset))
        depth = max(0.15, 4.6 * (1 - severity))
        yield Solid(Ellipsoid(frame, (5.4, 6.2, 8.0)), _LIGAMENT)
        yield Solid(Ellipsoid(frame, (4.2 - 1.5 * severity, depth, 16.0)), _FLUID)
        root = frame.moved(side * 1.2, 0, 0)
        yield Solid(Ellipsoid(root, (1.5, min(1.4, 0.5 + depth / 3), 14.0)), _ROOT)


def _foramina(spine: Spine, disc: Disc, level: str) -> Iterator[Solid]:
    """The keyhole between two pedicles: wide with root and fat above, a slot below."""
    for condition in FORAMINAL.conditions:
        side, severity = side_of(condition), spine.findings.severity(condition, level)
        centre = disc.frame.moved(side * (disc.pedicle_mm + 2.5), disc.wall_mm, 0)
        yield Solid(_keyhole(centre, 6.6, 7.6, 3.6), _LIGAMENT)
        open_ = 1 - severity
        room = _keyhole(centre, 6.4 * open_ + 0.2, 2.5 + 5.0 * open_, 3.4 * open_)
        yield Solid(room, _FAT)
        root = centre.moved(0, 6.0, 8.5)
        yield Solid(Ellipsoid(root, (8.0, 2.6 - 0.9 * severity, 2.8)), _ROOT)


def _keyhole(frame: Frame, deep: float, tall: float, slot: float) -> Union:
    """Half sizes in mm: front to back and height of the wide part, depth of the slot."""
    reach = 6.5  # half width
    wide = Ellipsoid(frame.moved(0, 6.0, 8.0), (reach * 1.3, deep, tall))
    narrow = Ellipsoid(frame.moved(0, 4.2, -1.0), (reach * 1.1, max(slot, 0.05), 7.0))
    return Union((wide, narrow))
