"""Signal of each tissue, 0 (none) to 1 (subcutaneous fat on T1), under both weightings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tissue:
    """Signal on T1 and T2 images, and how uneven it is (share of the signal)."""

    t1: float
    t2: float
    texture: float = 0.05

    def signal(self, weighting: str) -> float:
        """``weighting`` is ``t1`` or ``t2``."""
        return self.t1 if weighting == "t1" else self.t2


SKIN = Tissue(0.45, 0.35)
FAT = Tissue(0.95, 0.80, 0.06)
DEEP_FAT = Tissue(0.85, 0.70, 0.10)
EPIDURAL_FAT = Tissue(0.92, 0.72, 0.04)
MUSCLE = Tissue(0.32, 0.20, 0.18)
PSOAS = Tissue(0.31, 0.19, 0.12)
FASCIA = Tissue(0.12, 0.10)
INTERSPINOUS = Tissue(0.50, 0.38, 0.25)
CORTEX = Tissue(0.10, 0.08)
LIGAMENT = Tissue(0.20, 0.12)
CARTILAGE = Tissue(0.36, 0.70)
CSF = Tissue(0.14, 0.97, 0.03)
CORD = Tissue(0.40, 0.45)
ROOT = Tissue(0.33, 0.30)
VESSEL = Tissue(0.08, 0.06)
VEIN = Tissue(0.16, 0.15)
VESSEL_WALL = Tissue(0.28, 0.25)
BASIVERTEBRAL = Tissue(0.30, 0.85)
LIVER = Tissue(0.50, 0.30, 0.06)
KIDNEY_CORTEX = Tissue(0.42, 0.62)
KIDNEY_MEDULLA = Tissue(0.33, 0.72, 0.05)
BOWEL_WALL = Tissue(0.30, 0.32)
BOWEL_FLUID = Tissue(0.25, 0.75, 0.12)
BOWEL_SOLID = Tissue(0.42, 0.38, 0.2)
GAS = Tissue(0.03, 0.02)
PANCREAS = Tissue(0.50, 0.36, 0.2)
