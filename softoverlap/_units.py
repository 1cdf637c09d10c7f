"""Units that several rooms share."""

import math
from collections.abc import Sequence

MM3_PER_ML = 1000.0

MAX_LESION_MM = 32.0
"""The longest edge of a lesion that a box is asked to find; larger ones are ignored."""

EDGE_ROUNDING = 1 + 1e-6
"""An edge of 32 voxels of 1 mm may be 32.000001 mm, as affines have it, and is not longer."""


def edges_of_volume(edges: Sequence[float], volume: float) -> tuple[float, ...]:
    """The edges of a voxel, scaled by one factor where sheared axes make its volume less.

    Examples:
        >>> edges_of_volume((1.0, 4.0), 1.0)
        (0.5, 2.0)
    """
    product = math.prod(edges)
    if math.isclose(product, volume, rel_tol=1e-6):  # as float32 headers have it
        return tuple(edges)
    ratio, count = volume / product, len(edges)
    scale = math.cbrt(ratio) if count == 3 else ratio ** (1 / count)
    return tuple(edge * scale for edge in edges)
