"""Phantoms: seeded 3D scans with known lesions, raters and distractors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from softoverlap._checks import refusal
from softoverlap.lesion import Lesion
from softoverlap.lesions import lesions_from_mask
from softoverlap.phantoms import _anatomy as anatomy, _scenes as scenes
from softoverlap.phantoms._raters import outline, rater_panel, who_marks


@dataclass(frozen=True)
class Phantom:
    """A scan, the masks of its raters, and the resulting truth.

    Args:
        image: Intensities around 100, shape (D, H, W).
        mask: Share of raters that marked each voxel, shape (D, H, W); without raters the
            probabilities that the lesions were given with.
        raters: What each rater marked, 0 or 1, shape (R, D, H, W).
        lesions: Components of the union of the raters, with soft crops and existence; without
            raters those of the mask.
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).

    Examples:
        >>> phantom = LesionPhantoms(0, count=1)[0]
        >>> bool((phantom.mask == phantom.raters.float().mean(dim=0)).all())
        True
    """

    image: Float32[Tensor, "depth height width"]
    mask: Float32[Tensor, "depth height width"]
    raters: UInt8[Tensor, "raters depth height width"]
    lesions: list[Lesion]
    affine: Float64[Tensor, "4 4"]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Edge lengths of a voxel in mm, one for each axis."""
        return tuple(self.affine[:3, :3].norm(dim=0).tolist())


class LesionPhantoms(Dataset[Phantom]):
    """Seeded 3D scans with lesions, raters and distractors, for detectors and for measures.

    Each has up to six lesions, of which a third has a neighbour; where a rater joins neighbours,
    they are one lesion. Sizes go from a few voxels to more than a centimetre, with a median of
    about 80 mm³. Lesions are irregular and mottled, have soft edges, and fade into a dark rim.
    Vessels (bright tubes) and cysts (bright, round, even, sharp) have similar contrasts and sizes,
    and raters do not mark them, so intensity is not enough to find lesions. Tissue has texture at
    three scales, a bias field and noise.

    The raters, the same for all scans of a seed, differ in bias, in the jitter of their outlines
    and in what they overlook. A lesion's existence follows what can be seen of it: all mark one
    that is large and bright, few one that is small and faint. At least one rater marks each lesion
    of the truth.

    A scan depends only on seed and index, so scans can be made in any order.

    Args:
        seed: Seed of the raters and of all scans, at least 0.
        count: Number of scans.
        shape: Voxels along each axis.
        spacing: Edge lengths of a voxel in mm.
        num_raters: Number of raters.

    Raises:
        ValueError: If a number is out of range; the message names it.

    Examples:
        >>> phantom = LesionPhantoms(0, count=4)[2]
        >>> phantom.image.shape, phantom.raters.shape
        (torch.Size([96, 96, 64]), torch.Size([5, 96, 96, 64]))
        >>> all(0.2 <= lesion.existence <= 1 for lesion in phantom.lesions)
        True
    """

    def __init__(
        self,
        seed: int,
        *,
        count: int = 100,
        shape: Sequence[int] = (96, 96, 64),
        spacing: Sequence[float] = (1.0, 1.0, 1.5),
        num_raters: int = 5,
    ) -> None:
        check_numbers(seed, count, shape, spacing)
        if num_raters < 1:
            raise refusal("num_raters", f"must be at least 1, got {num_raters}")
        self.seed = seed
        self.count = count
        self.grid = anatomy.Grid(tuple(shape), tuple(map(float, spacing)))
        self.panel = rater_panel(np.random.default_rng([seed]), num_raters)

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return (
            f"LesionPhantoms({self.seed}, shape={self.grid.shape}, spacing={self.grid.spacing}, "
            f"num_raters={len(self.panel)})"
        )

    def case(self, index: int) -> str:
        """Name of the scan's files."""
        return f"phantom-{index:04d}"

    def __getitem__(self, index: int) -> Phantom:
        if not -self.count <= index < self.count:
            raise IndexError(f"index must be below the count of {self.count}, got {index}")
        rng = np.random.default_rng([self.seed, 1, index % self.count])
        bodies = scenes.bodies(rng, self.grid)
        image = scenes.painted(rng, self.grid, *bodies)
        raters = torch.from_numpy(self._raters(rng, bodies[0]))
        mask = raters.float().mean(dim=0)
        lesions = lesions_from_mask(mask, spacing=self.grid.spacing, raters=raters)
        affine = scenes.oblique_affine(rng, self.grid)
        return Phantom(torch.from_numpy(image), mask, raters, lesions, affine)

    def _raters(self, rng: np.random.Generator, lesions: Sequence[anatomy.Body]) -> np.ndarray:
        raters = np.zeros((len(self.panel), *self.grid.shape), dtype=np.uint8)
        for body in lesions:
            marks = who_marks(rng, self.panel, scenes.visibility(body))
            for number, (rater, sees) in enumerate(zip(self.panel, marks, strict=True)):
                if sees:
                    raters[number][body.window] |= outline(rng, self.grid, body, rater)
        return raters


def check_numbers(
    seed: int, count: int, shape: Sequence[int], spacing: Sequence[float | int]
) -> None:
    """The numbers that each kind of simulated scan has are in range."""
    for name, value in (("seed", seed), ("count", count)):
        if value < 0:
            raise refusal(name, f"must be at least 0, got {value}")
    if len(shape) != 3 or min(shape) < 16:
        raise refusal("shape", f"must hold three lengths of at least 16, got {tuple(shape)}")
    if len(spacing) != 3 or not all(0 < float(edge) < 100 for edge in spacing):
        raise refusal("spacing", f"must hold three positive lengths in mm, got {tuple(spacing)}")
