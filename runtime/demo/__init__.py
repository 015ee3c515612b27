"""The demo that is part of the package: phantom studies and a bundle of small detectors.

Both were made by ``benchmarks/make_demo``; nothing here was made by hand.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def demo_studies() -> Path:
    """A folder of phantom studies in the challenge's layout."""
    return FOLDER / "studies"


def demo_bundle() -> Path:
    """A bundle of three detectors trained on other phantom studies."""
    return FOLDER / "bundle"
