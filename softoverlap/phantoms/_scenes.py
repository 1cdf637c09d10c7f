"""What lies in a phantom, and where: sizes, contrasts, neighbours, and what can be seen.

All of it is assumed. As in scans of multiple sclerosis (Lesjak et al., Neuroinformatics 2017, where
the median lesion has 17 mm³), small lesions are the most frequent ones; but the median is larger
here, so that a detector which a CPU trains for minutes finds some.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from softoverlap.phantoms import _anatomy as anatomy
from softoverlap.phantoms._anatomy import Body, Grid

LESIONS, CYSTS, VESSELS = (0, 7), (6, 12), (5, 9)
"""Least number in a scan of the default size, and one more than the most."""

CONTRASTS = (16.0, 42.0)
"""Smallest and largest contrast of lesions, cysts and vessels to the tissue around 100."""

LESION_RADII = (0.9, 2.6, 5.0)
"""Smallest, median and largest radius of lesions, in mm."""

CYST_RADII = (1.2, 2.6, 5.0)
"""Smallest, median and largest radius of cysts, in mm."""

VESSEL_RADII = (0.6, 1.3, 3.0)
"""Smallest, median and largest radius of vessels, in mm."""

SPREAD = 0.4
"""Spread of the logarithm of a radius."""

NEIGHBOUR = 0.35
"""Share of lesions with a neighbour that touches them or nearly does."""

FAR, NEAR = 4.0, (-0.5, 2.5)
"""Least distance in mm of two bodies, and the distances of neighbours; below 0 they touch."""

SEEN = 18.0
"""Signal-to-noise ratio of a lesion whose visibility is a half."""

Place = tuple[np.ndarray, float]
"""Centre in mm, and radius."""


def bodies(rng: np.random.Generator, grid: Grid) -> tuple[list[Body], list[Body]]:
    """Up to six lesions, some with a neighbour, and six to eleven cysts."""
    count = int(rng.integers(*LESIONS))
    lesions = places(rng, grid, count, sizes(rng, LESION_RADII), [])
    lesions += list(_neighbours(rng, grid, lesions))
    cysts = places(rng, grid, int(rng.integers(*CYSTS)), sizes(rng, CYST_RADII), lesions)
    return (
        [anatomy.lesion(rng, grid, *place, contrast(rng)) for place in lesions],
        [anatomy.cyst(rng, grid, *place, contrast(rng)) for place in cysts],
    )


def contrast(rng: np.random.Generator, contrasts: tuple[float, float] = CONTRASTS) -> float:
    """Faint ones are as frequent as clear ones: the logarithm is uniform."""
    return float(np.exp(rng.uniform(*np.log(contrasts))))


def size(rng: np.random.Generator, radii: tuple[float, float, float]) -> float:
    """A radius whose logarithm is normal, between the smallest and the largest."""
    least, median, most = radii
    while not least <= (radius := median * float(np.exp(SPREAD * rng.standard_normal()))) <= most:
        pass
    return radius


def sizes(rng: np.random.Generator, radii: tuple[float, float, float]) -> Iterator[float]:
    """Such radii without end."""
    while True:
        yield size(rng, radii)


def visibility(body: Body) -> float:
    """How easily a lesion is seen, from 0 to 1.

    It grows with the signal-to-noise ratio of whoever knows the lesion's shape and looks for it in
    white noise as strong as noise and fine texture together: small and faint lesions have little.
    """
    spread = np.hypot(anatomy.NOISE, anatomy.TEXTURE[0][1])
    signal = body.contrast * np.sqrt(np.square(anatomy.inside(body)).sum()) / spread
    return float(signal**2 / (signal**2 + SEEN**2))


def places(
    rng: np.random.Generator,
    grid: Grid,
    count: int,
    radii: Iterator[float],
    taken: Sequence[Place],
    tries: int = 1000,
) -> list[Place]:
    """Up to `count` places that are apart from each other and from those taken."""
    found: list[Place] = []
    for _ in range(tries):
        if len(found) == count:
            break
        radius = next(radii)
        margin = np.minimum(radius * 1.3, grid.extent / 2)
        centre = rng.uniform(margin, grid.extent - margin)
        if all(_gap(centre, radius, other) > FAR for other in (*taken, *found)):
            found.append((centre, radius))
    return found


def _neighbours(rng: np.random.Generator, grid: Grid, lesions: Sequence[Place]) -> Iterator[Place]:
    """Beside some of the lesions another one, if it fits into the image."""
    for centre, radius in lesions:
        own, gap = size(rng, LESION_RADII), rng.uniform(*NEAR)
        way = rng.standard_normal(3)
        beside = centre + way / np.linalg.norm(way) * (radius + own + gap)
        fits = ((own <= beside) & (beside <= grid.extent - own)).all()
        if rng.random() < NEIGHBOUR and fits:
            yield beside, own


def _gap(centre: np.ndarray, radius: float, other: Place) -> float:
    return float(np.linalg.norm(centre - other[0]) - 1.3 * (radius + other[1]))


def painted(
    rng: np.random.Generator,
    grid: Grid,
    lesions: Sequence[Body],
    cysts: Sequence[Body],
    contrasts: tuple[float, float] = CONTRASTS,
    share: float = 1.0,
) -> np.ndarray:
    """The image: tissue with vessels, lesions, cysts, bias field and noise.

    `share` multiplies the number of vessels.
    """
    image = anatomy.tissue(rng, grid)
    for _ in range(round(share * int(rng.integers(*VESSELS)))):
        radius, strength = size(rng, VESSEL_RADII), contrast(rng, contrasts)
        anatomy.paint_vessel(grid, image, anatomy.vessel(rng, grid), radius, strength)
    for body in lesions:
        anatomy.paint_lesion(rng, grid, image, body)
    for body in cysts:
        anatomy.paint_cyst(image, body)
    image *= anatomy.bias_field(rng, grid)
    return image + anatomy.NOISE * rng.standard_normal(grid.shape).astype(np.float32)


def oblique_affine(rng: np.random.Generator, grid: Grid) -> Tensor:
    """Oblique, two axes flipped (as DICOM stores them: LPS), away from the origin."""
    affine = np.eye(4)
    flips = np.array([-1.0, -1.0, 1.0])
    turned = anatomy.random_rotation(rng, rng.uniform(0.1, 0.4))
    affine[:3, :3] = turned * flips * np.asarray(grid.spacing)
    affine[:3, 3] = rng.uniform(-80, 80, 3)
    return torch.from_numpy(affine)
