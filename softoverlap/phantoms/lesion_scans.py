"""Simulated scans with lesions of given shapes, such as real ones with their raters."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from softoverlap._checks import refusal
from softoverlap.lesion import Lesion
from softoverlap.lesions import lesions_from_mask
from softoverlap.phantoms import _anatomy as anatomy, _scenes as scenes, _shapes as shapes
from softoverlap.phantoms._anatomy import Grid, Window
from softoverlap.phantoms._raters import rater_panel
from softoverlap.phantoms._shapes import Shape
from softoverlap.phantoms.phantoms import Phantom, check_numbers

_USUAL_MM3 = 96.0**3
"""Volume of a scan of `LesionPhantoms`, for which its numbers of bodies are."""

_RATERS = 5
"""Raters of the phantoms' own shapes."""


_Placed = tuple[Shape, Window, float]
"""A shape, the voxels that it fills, and its contrast."""


class LesionScans(Dataset[Phantom]):
    """Seeded scans with lesions of given shapes in the tissue of `LesionPhantoms`.

    A scan is of one patient and has lesions of this patient alone, so a split by patient splits
    shapes too. It takes them in random order, each again only after all others, mirrored and turned
    by quarters about the last axis, and pastes them voxel by voxel: a shape of another spacing
    becomes larger or smaller. Lesions are at least 4 mm apart, and keep the raters that they are
    given with, whatever their contrast. Where an image shows one, it is the set of voxels of at
    least half its highest probability.

    Numbers of lesions, cysts and vessels are those of `LesionPhantoms`, in a larger scan larger in
    proportion to its volume, as far as they fit. A scan depends only on seed, index and lesions.

    Args:
        seed: Seed of all scans, at least 0.
        lesions: For each patient its lesions: each a `Lesion`, whose crop is pasted, or the masks
            of its raters, 0 or 1, shape (R, D, H, W), where R is the same for all. None for shapes
            of the phantoms' own kind, with five raters, and a patient for each scan.
        count: Number of scans; patients take turns.
        shape: Voxels along each axis.
        spacing: Edge lengths of a voxel in mm.
        contrasts: Smallest and largest contrast of lesions, cysts and vessels to the tissue, which
            is around 100 with noise of 3; its logarithm is uniform.

    Raises:
        TypeError: If `lesions` is no dictionary, or a lesion neither a `Lesion` nor a tensor.
        ValueError: If a number is out of range, a patient's name is no name of a file, or a lesion
            is empty, larger than a scan, of other values than said, or without raters below 0.5
            everywhere; the message names it.

    Examples:
        >>> ball = torch.ones(4, 3, 3, 2, dtype=torch.uint8)  # four raters who agree
        >>> scan = LesionScans(0, {"a": [ball]}, count=2, shape=(48, 48, 32))[1]
        >>> scan.image.shape, scan.raters.shape
        (torch.Size([48, 48, 32]), torch.Size([4, 48, 48, 32]))
        >>> {lesion.volume_mm3 for lesion in scan.lesions} <= {3 * 3 * 2 * 1.5}
        True
    """

    def __init__(
        self,
        seed: int,
        lesions: Mapping[str, Sequence[Lesion | Tensor]] | None = None,
        *,
        count: int = 100,
        shape: Sequence[int] = (160, 160, 96),
        spacing: Sequence[float | int] = (1.0, 1.0, 1.5),
        contrasts: tuple[float | int, float | int] = scenes.CONTRASTS,
    ) -> None:
        check_numbers(seed, count, shape, spacing)
        low, high = contrasts if isinstance(contrasts, Sequence) and len(contrasts) == 2 else (0, 0)
        if not 0 < low <= high < math.inf:
            raise refusal("contrasts", f"must be two numbers above 0 in order, got {contrasts}")
        self.seed = seed
        self.count = count
        self.contrasts = (float(low), float(high))
        self.grid = Grid(tuple(shape), tuple(map(float, spacing)))
        self._panel = rater_panel(np.random.default_rng([seed]), _RATERS)
        self._shapes = None if lesions is None else shapes.checked_shapes(lesions, self.grid)
        counts = {len(shape.raters) for group in (self._shapes or {}).values() for shape in group}
        self._num_raters = _RATERS if self._shapes is None else max(counts, default=0)

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return (
            f"LesionScans({self.seed}, {self._described()}, shape={self.grid.shape}, "
            f"spacing={self.grid.spacing}, contrasts={self.contrasts})"
        )

    def _described(self) -> str:
        """The lesions in a few words, and a hash by which others are told apart."""
        if self._shapes is None:
            return "None"
        digest = hashlib.sha256()
        for patient, group in self._shapes.items():
            digest.update(f"{patient} {[(s.mask.shape, s.raters.shape) for s in group]}".encode())
            for part in itertools.chain.from_iterable(group):
                digest.update(part.tobytes())
        number = sum(map(len, self._shapes.values()))
        return f"<{number} of {len(self._shapes)} patients, {digest.hexdigest()[:16]}>"

    def patient(self, index: int) -> str:
        """The patient whose lesions the scan has."""
        if self._shapes is None:
            return f"scan-{index:04d}"
        return list(self._shapes)[index % len(self._shapes)]

    def case(self, index: int) -> str:
        """Name of the scan's files."""
        patient = self.patient(index)
        return patient if self._shapes is None else f"{patient}_{index:04d}"

    def __getitem__(self, index: int) -> Phantom:
        if not -self.count <= index < self.count:
            raise IndexError(f"index must be below the count of {self.count}, got {index}")
        index %= self.count
        rng = np.random.default_rng([self.seed, 2, index])
        share = max(1.0, math.prod(self.grid.extent) / _USUAL_MM3)
        chosen = self._chosen(rng, index, round(share * int(rng.integers(*scenes.LESIONS))))
        placed, taken = self._placed(rng, chosen)
        bodies = [
            shapes.body_of(shape, window, self.grid, contrast) for shape, window, contrast in placed
        ]
        number = round(share * int(rng.integers(*scenes.CYSTS)))
        radii = scenes.sizes(rng, scenes.CYST_RADII)
        cysts = [
            anatomy.cyst(rng, self.grid, *place, scenes.contrast(rng, self.contrasts))
            for place in scenes.places(rng, self.grid, number, radii, taken)
        ]
        image = scenes.painted(rng, self.grid, bodies, cysts, self.contrasts, share)
        mask, raters = self._truth(placed)
        spacing, seen = self.grid.spacing, raters if len(raters) else None
        lesions = lesions_from_mask(mask, spacing=spacing, raters=seen)
        affine = scenes.oblique_affine(rng, self.grid)
        return Phantom(torch.from_numpy(image), mask, raters, lesions, affine)

    def _chosen(
        self, rng: np.random.Generator, index: int, number: int
    ) -> list[tuple[Shape, float]]:
        """Shapes of the scan's patient, turned, and their contrasts."""
        contrasts = [scenes.contrast(rng, self.contrasts) for _ in range(number)]
        if self._shapes is None:
            found = [shapes.own_shape(rng, self.grid, self._panel, c) for c in contrasts]
        else:
            own = self._shapes[self.patient(index)]
            rounds = -(-number // len(own)) if own else 0
            order = [k for _ in range(rounds) for k in rng.permutation(len(own)).tolist()]
            found = [own[k] for k in order[:number]]
        return [(shapes.turned(rng, shape), c) for shape, c in zip(found, contrasts, strict=False)]

    def _placed(
        self, rng: np.random.Generator, chosen: Sequence[tuple[Shape, float]]
    ) -> tuple[list[_Placed], list[scenes.Place]]:
        """The shapes that find a place apart from those before, and the balls that they fill."""
        placed: list[_Placed] = []
        taken: list[scenes.Place] = []
        for shape, contrast in chosen:
            radii = itertools.repeat(shapes.reach_of(shape, self.grid))
            for place in scenes.places(rng, self.grid, 1, radii, taken):
                placed.append((shape, shapes.window_at(shape, place[0], self.grid), contrast))
                taken.append(place)
        return placed, taken

    def _truth(self, placed: Sequence[_Placed]) -> tuple[Tensor, Tensor]:
        """The soft mask of the scan, and the masks of its raters."""
        mask = torch.zeros(self.grid.shape)
        raters = torch.zeros(self._num_raters, *self.grid.shape, dtype=torch.uint8)
        for shape, window, _ in placed:
            mask[window] = torch.from_numpy(shape.mask.copy())
            raters[(slice(None), *window)] = torch.from_numpy(shape.raters.copy())
        return mask, raters
