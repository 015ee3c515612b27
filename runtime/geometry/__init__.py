"""Geometry of a study: which slices show the left, the right, and each disc."""
