"""Units that several rooms share."""

MM3_PER_ML = 1000.0

MAX_LESION_MM = 32.0
"""The longest edge of a lesion that a box is asked to find; larger ones are ignored."""

EDGE_ROUNDING = 1 + 1e-6
"""An edge of 32 voxels of 1 mm may be 32.000001 mm, as affines have it, and is not longer."""
