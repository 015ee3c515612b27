"""Synthetic lumbar-spine MRI in the challenge's layout, for tests, demos and benchmarks.

All slices of a study are cut from one three-dimensional model. So all its series show the same
spine, and a landmark projected through the header lies where the table says.
"""

from rsna_lumbar.train.phantom.make import make_phantom
from rsna_lumbar.train.phantom.options import QUIRKS, USUAL_QUIRKS, PhantomOptions

__all__ = ["QUIRKS", "USUAL_QUIRKS", "PhantomOptions", "make_phantom"]
