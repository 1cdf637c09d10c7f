"""Lists of boxes as they come (corners or centres, voxels or the world) in voxels of an image."""

from __future__ import annotations

import numpy as np

from softoverlap.for_monai.transforms.grid import Grid

LAYOUTS = ("corners", "centre")
COORDINATES = ("voxel", "RAS", "LPS")


def centres_and_edges(
    values: np.ndarray, ndim: int, layout: str, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Both of shape (N, ndim); a single diameter holds for all axes.

    Raises:
        ValueError: If there are too many or too few columns, or an edge is not above 0.
    """
    widths = (2 * ndim,) if layout == "corners" else (2 * ndim, ndim + 1)
    if values.size == 0:
        return np.zeros((0, ndim)), np.zeros((0, ndim))
    if values.ndim != 2 or values.shape[1] not in widths:
        expected = " or ".join(f"(N, {width})" for width in widths)
        raise ValueError(f"{name} must have shape {expected}, got {values.shape}")
    first, rest = values[:, :ndim], values[:, ndim:]
    centres, edges = ((first + rest) / 2, rest - first) if layout == "corners" else (first, rest)
    edges = np.broadcast_to(edges, centres.shape)
    if not np.isfinite(values).all() or not (edges > 0).all():
        raise ValueError(f"{name} must hold finite boxes with edges above 0, got {values.tolist()}")
    return centres, edges


def boxes_on_grid(
    centres: np.ndarray, edges: np.ndarray, grid: Grid, *, coordinates: str, shape: str
) -> np.ndarray:
    """Boxes in voxel coordinates, (N, 2 * ndim).

    Where the image is oblique, a box of the world becomes the box around it; an ellipsoid becomes
    the ellipsoid in the box around it, and a ball stays one.
    """
    if coordinates != "voxel":
        signs = np.ones(len(grid.origin))
        signs[:2] = -1 if coordinates == "LPS" else 1
        steps = grid.steps
        centres = grid.to_voxels(centres * signs)
        edges = edges @ np.abs(steps).T if shape == "box" else np.sqrt(edges**2 @ (steps**2).T)
    return np.concatenate([centres - edges / 2, centres + edges / 2], axis=1)
