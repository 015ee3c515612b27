"""The random spine of one study: where its vertebrae, discs and canal are, in millimetres.

Patient coordinates LPS (+x left, +y posterior, +z superior), origin near the middle of L3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsna_lumbar.runtime.core.labels import CONDITIONS, LEVELS, SPINAL
from rsna_lumbar.train.phantom.anatomy.grades import Findings
from rsna_lumbar.train.phantom.anatomy.plane import Vector
from rsna_lumbar.train.phantom.anatomy.solids import AXES, HEIGHTS_MM, Frame, Table, table

# T11 to S3, top to bottom. L1 stands at index 2, so that disc i + 2 is LEVELS[i].
NAMES = ("T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "S2", "S3")
_FIRST_LUMBAR = NAMES.index("L1")
_MIDDLE = NAMES.index("L3")

# Typical adult sizes per vertebra (mm), lean of the superior axis (degrees, + posterior), and
# height of the disc below.
_HEIGHTS = np.array([23.5, 25, 26.5, 27, 27.5, 27.5, 27.5, 27, 22, 18])
_DEPTHS = np.array([29, 30, 31, 32, 33, 34, 34.5, 32, 23, 16])
_WIDTHS = np.array([36, 38, 41, 43, 45, 48, 52, 50, 38, 30])
_PEDICLES = np.array([13, 13.5, 14, 15, 16, 17.5, 20, 21, 18, 15])  # from the midline
_LEANS = np.array([14, 13, 11, 7, 0, -8, -20, -37, -48, -52])
_DISCS = np.array([5.5, 6.5, 8, 9.5, 10.5, 11, 10, 2.5, 2])

_CANAL_GAP_MM = 1.5  # posterior longitudinal ligament and epidural veins
_FADE_MM = 4.0  # standard deviation along the canal: a fifth of the narrowing is left at 7 mm
# The sac's share of its normal depth: 1 at severity 0, this less at severity 1.
_SAC_LOSS = 0.9
POSTERIOR_WALL = 0.5  # of the body's depth, behind its centre


@dataclass(frozen=True, eq=False, slots=True)
class Segment:
    """A vertebral body or a disc space; the origin of its frame is its centre."""

    frame: Frame
    width_mm: float
    depth_mm: float
    height_mm: float
    pedicle_mm: float  # from the midline to the middle of a pedicle; of a disc, the mean of two

    @property
    def wall_mm(self) -> float:
        """From the centre back to the posterior wall."""
        return POSTERIOR_WALL * self.depth_mm


@dataclass(frozen=True, eq=False, slots=True)
class Vertebra(Segment):
    """One of NAMES."""

    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Disc(Segment):
    """The disc space between ``NAMES[i]`` and the next."""

    degeneration: float  # 0 bright and tall, 1 dark and flat
    level: str | None  # one of LEVELS, None outside the lumbar spine


@dataclass(frozen=True, eq=False, slots=True)
class Canal:
    """The canal at each of HEIGHTS_MM (horizontal sections, hence the slope of the sacrum)."""

    x_mm: Table  # midline
    y_mm: Table  # centre of the unnarrowed sac
    slope: Table  # 1 / cos of the canal's lean: horizontal depth per true depth
    half_depth_mm: Table  # of the unnarrowed sac, horizontal
    front_mm: Table  # y of the sac's anterior border, with stenosis
    back_mm: Table  # y of its posterior border, with stenosis
    half_width_mm: Table
    narrowing: Table  # severity of stenosis at this height, 0 to 1
    disc_nearness: Table  # 1 at a disc, fading to 0


@dataclass(frozen=True, eq=False, slots=True)
class Spine:
    """The anatomy of one patient."""

    vertebrae: tuple[Vertebra, ...]
    discs: tuple[Disc, ...]
    canal: Canal
    findings: Findings
    vertebra_at: Table  # index into NAMES, continuous, at each of HEIGHTS_MM
    body_x_mm: Table  # centre of the bodies
    body_y_mm: Table
    body_half_depth_mm: Table
    fatness: float  # 0 slim to 1

    def disc(self, level: str) -> Disc:
        return self.discs[_FIRST_LUMBAR + LEVELS.index(level)]


def side_of(condition: str) -> int:
    """+1 for a left-sided condition (patient's left is +x), -1 for right, 0 for the midline."""
    assert condition in CONDITIONS
    return {"left": 1, "right": -1}.get(condition.split("_")[0], 0)


def draw_spine(rng: np.random.Generator, findings: Findings) -> Spine:
    """A random patient with the given findings."""
    scale = float(rng.normal(1.0, 0.04))
    vertebrae, discs = _stack(rng, findings, scale)
    heights = np.array([v.frame.origin_mm[2] for v in vertebrae])
    index = _along(heights, np.arange(len(NAMES)))
    return Spine(
        vertebrae=vertebrae,
        discs=discs,
        canal=_canal(rng, vertebrae, discs, findings, scale),
        findings=findings,
        vertebra_at=index,
        body_x_mm=_along(heights, np.array([v.frame.origin_mm[0] for v in vertebrae])),
        body_y_mm=_along(heights, np.array([v.frame.origin_mm[1] for v in vertebrae])),
        body_half_depth_mm=_along(heights, np.array([v.wall_mm for v in vertebrae])),
        fatness=float(rng.uniform()),
    )


def _stack(
    rng: np.random.Generator, findings: Findings, scale: float
) -> tuple[tuple[Vertebra, ...], tuple[Disc, ...]]:
    frames = _axes(rng)
    worn = np.array((0.2, 0.2, *findings.degeneration, 0.3, 0.3))
    heights = _HEIGHTS * scale * rng.normal(1, 0.02, len(NAMES))
    gaps = _DISCS * scale * (1.08 - 0.35 * worn)
    spread = rng.normal(1, 0.02, (3, len(NAMES)))
    widths, depths, pedicles = np.stack([_WIDTHS, _DEPTHS, _PEDICLES]) * scale * spread
    sizes = np.stack([widths, depths, heights, pedicles], axis=1).tolist()
    centres, disc_centres = _centres(frames, heights, gaps)
    vertebrae = tuple(
        Vertebra(Frame(centre, axes), width, depth, height, pedicle, name)
        for name, centre, axes, (width, depth, height, pedicle) in zip(
            NAMES, centres, frames, sizes, strict=True
        )
    )
    discs = tuple(
        _disc(i, disc_centres[i], vertebrae[i], vertebrae[i + 1], float(gaps[i]), float(worn[i]))
        for i in range(len(gaps))
    )
    return vertebrae, discs


def _axes(rng: np.random.Generator) -> list[np.ndarray]:
    """Orientation of each vertebra: lordosis, slight scoliosis and rotation."""
    leans = _LEANS * rng.uniform(0.75, 1.15) + rng.normal(0, 1.5, len(NAMES))
    bend, twist = rng.normal(0, 1.5), rng.normal(0, 1.5)
    wave = np.sin(np.linspace(-1.5, 1.5, len(NAMES)))
    upright = Frame(np.zeros(3), AXES)
    return [
        # A rotation about the left axis by -lean moves the superior axis backwards.
        upright.turned(2, twist * side).turned(1, bend * side).turned(0, -lean).axes
        for lean, side in zip(leans, wave, strict=True)
    ]


def _centres(
    axes: list[np.ndarray], heights: np.ndarray, gaps: np.ndarray
) -> tuple[list[Vector], list[Vector]]:
    """Centres of the bodies and of the discs, stacked end to end, L3 at the origin."""
    bodies, discs = [np.zeros(3)], []
    for i, gap in enumerate(gaps):
        endplate = bodies[i] - axes[i][2] * heights[i] / 2
        down = -_unit(axes[i][2] + axes[i + 1][2])
        discs.append(endplate + down * gap / 2)
        bodies.append(endplate + down * gap - axes[i + 1][2] * heights[i + 1] / 2)
    middle = bodies[_MIDDLE]
    return [centre - middle for centre in bodies], [centre - middle for centre in discs]


def _disc(
    index: int, centre: Vector, above: Vertebra, below: Vertebra, height: float, worn: float
) -> Disc:
    superior = _unit(above.frame.axes[2] + below.frame.axes[2])
    left = _unit(above.frame.axes[0] - (above.frame.axes[0] @ superior) * superior)
    lumbar = index - _FIRST_LUMBAR
    return Disc(
        frame=Frame(centre, np.stack([left, np.cross(superior, left), superior])),
        width_mm=(above.width_mm + below.width_mm) / 2,
        depth_mm=(above.depth_mm + below.depth_mm) / 2,
        height_mm=height,
        pedicle_mm=(above.pedicle_mm + below.pedicle_mm) / 2,
        degeneration=worn,
        level=LEVELS[lumbar] if 0 <= lumbar < len(LEVELS) else None,
    )


def _canal(
    rng: np.random.Generator,
    vertebrae: tuple[Vertebra, ...],
    discs: tuple[Disc, ...],
    findings: Findings,
    scale: float,
) -> Canal:
    depth = float(np.clip(rng.normal(15.5, 0.7), 14, 17)) * scale
    parts: list[Segment] = [*vertebrae, *discs]
    points = np.array(
        [part.frame.point(0, part.wall_mm + _CANAL_GAP_MM + depth / 2, 0) for part in parts]
    )
    x, y = (_smooth(_along(points[:, 2], points[:, axis])) for axis in (0, 1))
    slope = np.sqrt(1 + np.gradient(y, HEIGHTS_MM) ** 2)
    heights = np.array([vertebra.frame.origin_mm[2] for vertebra in vertebrae])
    # The sac tapers through the sacrum and ends at S2.
    taper = _along(heights, np.array([1, 1, 1.03, 1, 0.98, 0.98, 0.95, 0.8, 0.35, 0.1]))
    half = depth / 2 * taper * slope
    narrowing, nearness = _narrowing(discs, y, slope, findings)
    loss = 2 * half * _SAC_LOSS * narrowing
    front_share = float(rng.uniform(0.5, 0.65))  # disc bulge; the rest is ligamentum flavum
    return Canal(
        x_mm=table(x),
        y_mm=table(y),
        slope=table(slope),
        half_depth_mm=table(half),
        front_mm=table(y - half + front_share * loss),
        back_mm=table(y + half - (1 - front_share) * loss),
        half_width_mm=table(10.0 * scale * taper * (1 - 0.35 * narrowing)),
        narrowing=table(narrowing),
        disc_nearness=table(nearness),
    )


def _narrowing(
    discs: tuple[Disc, ...], y: np.ndarray, slope: np.ndarray, findings: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """Severity at each height, and nearness to a disc."""
    (condition,) = SPINAL.conditions
    narrowing, nearness = np.zeros(len(HEIGHTS_MM)), np.zeros(len(HEIGHTS_MM))
    for disc in discs:
        height = _canal_height(disc, y)
        along = (HEIGHTS_MM - height) * slope  # millimetres along the canal
        fade = np.exp(-0.5 * (along / _FADE_MM) ** 2)
        nearness = np.maximum(nearness, fade)
        if disc.level is not None:
            narrowing = np.maximum(narrowing, fade * findings.severity(condition, disc.level))
    return narrowing, nearness


def _canal_height(disc: Disc, y: np.ndarray) -> float:
    """z where the disc's plane meets the middle of the canal."""
    offset = np.stack([np.zeros_like(y), y, HEIGHTS_MM], axis=1) - disc.frame.origin_mm
    near = np.abs(HEIGHTS_MM - disc.frame.origin_mm[2]) < 40
    plane = np.where(near, np.abs(offset @ disc.frame.axes[2]), np.inf)
    return float(HEIGHTS_MM[int(plane.argmin())])


def canal_point(spine: Spine, disc: Disc) -> Vector:
    """Middle of the (narrowed) sac where the disc's plane meets it."""
    canal = spine.canal
    z = _canal_height(disc, canal.y_mm)
    row = int(np.argmin(np.abs(HEIGHTS_MM - z)))
    return np.array([canal.x_mm[row], (canal.front_mm[row] + canal.back_mm[row]) / 2, z])


def _along(heights: np.ndarray, values: np.ndarray) -> Table:
    """Interpolated to HEIGHTS_MM, constant outside."""
    order = np.argsort(heights)
    return table(np.interp(HEIGHTS_MM, heights[order], values[order]))


def _smooth(values: Table) -> np.ndarray:
    """Gaussian, 5 mm: the canal has no kinks."""
    steps = np.arange(-30, 31)
    kernel = np.exp(-0.5 * (steps / 10.0) ** 2)
    return np.convolve(np.pad(values, 30, mode="edge"), kernel / kernel.sum(), mode="valid")


def _unit(vector: Vector) -> Vector:
    return np.asarray(vector / np.linalg.norm(vector))
