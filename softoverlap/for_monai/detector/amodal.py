"""Quality of anchors for lesions that a patch cuts: what is hidden is not held against them.

See `docs/decisions/0007-amodal-boxes.md` for the derivation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap.anchors import AnchorOverlap, anchor_quality, best_box_in_image
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume
from softoverlap.overlaps import (
    BoxOverlap,
    MaskBoxOverlap,
    mask_box_dice,
    mask_box_mass,
    mask_box_pair_mass,
)


def lesion_quality(
    lesions: Sequence[Lesion],
    anchors: Float[Tensor, "anchors coords"],
    *,
    overlap: AnchorOverlap = mask_box_dice,
    normalize: str | None = "best",
) -> Float[Tensor, "lesions anchors"]:
    """`anchor_quality`; lesions that a patch cuts are compared with the whole lesion's size."""
    quality = anchor_quality(lesions, anchors, overlap=overlap, normalize=normalize, validate=False)
    rows = [row for row, lesion in enumerate(lesions) if lesion.visible < 1]
    if not rows or isinstance(overlap, BoxOverlap):
        return quality  # an overlap of boxes is with the whole box
    if overlap.tversky_weights is None:
        raise ValueError(
            f"overlap must be a ratio or one of boxes for amodal lesions, got {overlap!r}"
        )
    for row in rows:  # one at a time, so that nothing larger than the quality itself is made
        cut = _CutLesions([lesions[row]], anchors.device, overlap)
        completed = cut.score(anchors, mask_box_mass(cut.tables, anchors, validate=False))
        if normalize is not None:
            best = cut.best()[:, None]
            completed = (completed / torch.where(best > 0, best, 1)).clamp(max=1)
        quality[row] = completed[0].to(quality)
    return quality


class _CutLesions:
    """Lesions with a whole box of which a patch shows a part."""

    def __init__(
        self, lesions: Sequence[Lesion], device: torch.device, overlap: MaskBoxOverlap
    ) -> None:
        self.lesions, self.overlap = lesions, overlap.with_(empty=0.0)
        self.tables = SummedVolume.from_lesions(lesions, device=device, validate=False)
        shown = torch.tensor([lesion.visible for lesion in lesions], dtype=torch.float64)
        self.size = self.tables.sizes / shown.to(device)
        self.box = torch.stack([lesion.box.to(device, torch.float64) for lesion in lesions])
        self.shown_box = self._shown_box()
        hidden = geometry.volume(self.box) - geometry.volume(self.shown_box)
        mass = self.size - self.tables.sizes
        ratio = mass / torch.where(hidden > 0, hidden, 1)
        self.density = torch.where(hidden > 0, ratio, 0).clamp(max=1)

    def _shown_box(self) -> Float[Tensor, "cut coords"]:
        """The part of each box that lies in the patch: the crop ends where the patch does."""
        ndim = self.box.shape[1] // 2
        low = self.box[:, :ndim].maximum(self.tables.offsets)
        high = self.box[:, ndim:].minimum(self.tables.offsets + self.tables.shapes)
        return torch.cat([low, high.maximum(low)], dim=1)

    def score(
        self, boxes: Float[Tensor, "boxes coords"], shown_mass: Float[Tensor, "cut boxes"]
    ) -> Float[Tensor, "cut boxes"]:
        """Overlap with the whole lesion, its hidden mass spread over the hidden part of its box."""
        wide = boxes.to(torch.float64)
        hidden = geometry.intersection(self.box[:, None], wide[None])
        hidden = hidden - geometry.intersection(self.shown_box[:, None], wide[None])
        mass = shown_mass + self.density[:, None] * hidden.clamp(min=0)
        return self.overlap.ratio(mass, geometry.volume(wide)[None], self.size[:, None])

    def best(self) -> Float[Tensor, "cut"]:
        """Overlap that some box surely has with the whole lesion, the highest that is known."""
        own = mask_box_pair_mass(self.tables, self.box, validate=False)
        whole = self.score(self.box, own.expand(len(own), -1)).diagonal()
        best = [best_box_in_image(lesion, overlap=self.overlap) for lesion in self.lesions]
        boxes = torch.stack(best).to(self.box)
        mass = mask_box_pair_mass(self.tables, boxes, validate=False)
        return whole.maximum(self.overlap.ratio(mass, geometry.volume(boxes), self.size))
