"""Overlap of soft masks cut at thresholds: at a list of them, over all of them, at the best one.

Soft Dice is a ratio of integrals over the threshold; the measures here are integrals of ratios, so
that a threshold at which the masks are small counts as much as one at which they are large. A voxel
belongs to a mask at a threshold if its value is at or above it. Voxels are counted in one pass (a
histogram) or by one sort, not in one pass a threshold.
"""
