"""The parts of phantoms: tissue, vessels, cysts and lesions.

Lengths are in mm. A field is a rough signed distance in mm, negative inside. Lesions and cysts
have similar contrast and size; they differ in what a radiologist would look at: a lesion is
irregular, mottled and fades into a dark rim, a cyst is round, even and sharp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Window = tuple[slice, ...]

NOISE = 3.0
"""Spread of the noise of each voxel."""

TEXTURE = ((1.2, 2.0), (3.0, 3.0), (8.0, 4.0))
"""Scale in mm and spread of each part of the tissue's texture."""

VESSEL_PIECES = 8
"""Parts in which a vessel is drawn: the boxes around them are far smaller than that around all."""


@dataclass(frozen=True)
class Grid:
    """Voxels along each axis, and their edges in mm."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def extent(self) -> np.ndarray:
        """Edges of the image in mm."""
        return np.asarray(self.shape) * np.asarray(self.spacing)

    def window(self, low: np.ndarray, high: np.ndarray) -> Window:
        """The voxels between two corners in mm, clipped to the image."""
        first = np.floor(low / self.spacing).clip(0, self.shape).astype(int)
        last = np.ceil(high / self.spacing).clip(0, self.shape).astype(int)
        return tuple(slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True))

    def positions(self, window: Window) -> np.ndarray:
        """Centres of the window's voxels in mm, shape (*window, ndim)."""
        axes = [
            (np.arange(part.start, part.stop) + 0.5) * edge
            for part, edge in zip(window, self.spacing, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


@dataclass(frozen=True)
class Body:
    """A lesion or a cyst: its window in the image, its field there, and its contrast."""

    window: Window
    field: np.ndarray
    radius: float
    contrast: float


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], sigma: Sequence[float]
) -> np.ndarray:
    """Gaussian noise with zero mean and unit spread, smooth over `sigma` voxels."""
    noise = ndimage.gaussian_filter(
        rng.standard_normal(shape).astype(np.float32), sigma, mode="wrap"
    )
    return (noise - noise.mean()) / noise.std()


def tissue(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """Background around 100 with structure at three scales."""
    image = np.full(grid.shape, 100, dtype=np.float32)
    for scale, strength in TEXTURE:
        sigma = [scale / edge for edge in grid.spacing]
        image += strength * smooth_noise(rng, grid.shape, sigma)
    return image


def bias_field(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """A smooth factor around 1, like that of a receiver coil."""
    waves = np.zeros(grid.shape, dtype=np.float32)
    for _ in range(3):
        wave = np.float32(1)
        for axis, length in enumerate(grid.shape):
            phase = rng.uniform(0, 2 * np.pi) + rng.uniform(0, np.pi) * np.arange(length) / length
            wave = wave * np.expand_dims(
                np.cos(phase).astype(np.float32), tuple({0, 1, 2} - {axis})
            )
        waves += wave
    return 1 + 0.1 * waves


def ellipsoid(
    rng: np.random.Generator, grid: Grid, centre: np.ndarray, radius: float, stretch: float
) -> tuple[Window, np.ndarray]:
    """Field of a randomly oriented ellipsoid with axes up to `stretch` times longer or shorter."""
    reach = radius * stretch * 1.3 + 5
    window = grid.window(centre - reach, centre + reach)
    turned = (grid.positions(window) - centre) @ random_rotation(rng, rng.uniform(0, np.pi))
    factors = stretch ** rng.uniform(-1, 1, 3)
    return window, np.linalg.norm(turned / factors, axis=-1).astype(np.float32) - radius


def lesion(
    rng: np.random.Generator, grid: Grid, centre: np.ndarray, radius: float, contrast: float
) -> Body:
    """An ellipsoid with a rough, lobed surface."""
    window, field = ellipsoid(rng, grid, centre, radius, 1.3)
    lobes = smooth_noise(rng, field.shape, [0.4 * radius / edge for edge in grid.spacing])
    return Body(window, field + 0.22 * radius * lobes, radius, contrast)


def cyst(
    rng: np.random.Generator, grid: Grid, centre: np.ndarray, radius: float, contrast: float
) -> Body:
    """An ellipsoid that is nearly a ball."""
    window, field = ellipsoid(rng, grid, centre, radius, 1.1)
    return Body(window, field, radius, contrast)


def inside(body: Body) -> np.ndarray:
    """How far each voxel of the window is inside a lesion, from 0 to 1: its edge is soft."""
    softness = min(0.8, 0.3 * body.radius)
    return 1 / (1 + np.exp(np.clip(body.field / softness, -30, 30)))


def paint_lesion(rng: np.random.Generator, grid: Grid, image: np.ndarray, body: Body) -> None:
    """Add the lesion to the image: mottled, with a soft edge and a dark rim as thick as it is."""
    mottle = smooth_noise(rng, body.field.shape, [1.2 / edge for edge in grid.spacing])
    rim = np.exp(-(((body.field / body.radius - 0.7) / 0.35) ** 2))
    image[body.window] += body.contrast * (inside(body) * (1 + 0.35 * mottle) - 0.4 * rim)


def paint_cyst(image: np.ndarray, body: Body) -> None:
    """Add the cyst to the image: even, with a sharp edge."""
    image[body.window] += body.contrast / (1 + np.exp(np.clip(body.field / 0.25, -30, 30)))


def vessel(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """Points along a curve through the image, in mm, shape (points, ndim)."""
    start, bend, stop = rng.uniform(-0.1, 1.1, (3, 3)) * grid.extent
    stop = stop + (stop - start) * 0.5
    along = np.linspace(0, 1, 400)[:, None]
    return (1 - along) ** 2 * start + 2 * along * (1 - along) * bend + along**2 * stop


def paint_vessel(
    grid: Grid, image: np.ndarray, points: np.ndarray, radius: float, contrast: float
) -> None:
    """Add a tube around the curve to the image, as sharp as a cyst."""
    tube = np.zeros(grid.shape, dtype=np.float32)
    length = -(-len(points) // VESSEL_PIECES)
    for first in range(0, len(points), length):
        _widen(grid, tube, points[first : first + length], radius)
    image += contrast * tube


def _widen(grid: Grid, tube: np.ndarray, points: np.ndarray, radius: float) -> None:
    """Raise the tube to what is within the radius of these points."""
    reach = radius + 3
    window = grid.window(points.min(axis=0) - reach, points.max(axis=0) + reach)
    origin = np.array([part.start for part in window])
    away = np.ones([part.stop - part.start for part in window], dtype=bool)
    cells = np.floor(points / grid.spacing).astype(int) - origin
    cells = cells[((cells >= 0) & (cells < away.shape)).all(axis=1)]
    if len(cells) == 0:
        return
    away[tuple(cells.T)] = False
    distance = np.asarray(ndimage.distance_transform_edt(away, sampling=grid.spacing))
    near = 1 / (1 + np.exp(np.clip((distance - radius) / 0.25, -30, 30)))
    tube[window] = np.maximum(tube[window], near)


def random_rotation(rng: np.random.Generator, turn: float) -> np.ndarray:
    """A rotation about a random axis by `turn` radians, shape (3, 3)."""
    axis = rng.standard_normal(3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * cross @ cross
