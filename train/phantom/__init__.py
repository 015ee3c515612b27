"""Synthetic lumbar-spine MRI in the challenge's own layout, for tests, demos and benchmarks.

One three-dimensional model of each patient is sampled by every slice, so all series of a study
show the same spine, and a landmark projected through the header falls where the table says.
"""

from rsna_lumbar.train.phantom.make import make_phantom
from rsna_lumbar.train.phantom.options import QUIRKS, USUAL_QUIRKS, PhantomOptions

__all__ = ["QUIRKS", "USUAL_QUIRKS", "PhantomOptions", "make_phantom"]
