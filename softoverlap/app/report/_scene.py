"""What a picture of a case shows: checked, and turned as radiologists look where that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from softoverlap.app.report._planes import Plane, default_centre
from softoverlap.app.report.display import DISPLAY, plane_title, sides
from softoverlap.images import Volume, boxes_between_grids, reorient_to


@dataclass(frozen=True)
class Scene:
    """A scan with masks and boxes in its voxels; without affine, its axes have no names."""

    image: Tensor
    spacing: Sequence[float]
    masks: tuple[Tensor | None, Tensor | None]
    truth: Tensor | None
    found: Tensor | None
    centre: Sequence[float] | None
    affine: Tensor | None = None

    @property
    def point(self) -> Sequence[float]:
        """Where the planes meet: the centre, else that of the first box, else of the image."""
        if self.centre is not None:
            return self.centre
        return default_centre(self.image, self.truth, self.found)

    def turned(self, affine: Tensor) -> Scene:
        """The same with axial planes first, the patient's front above, their right on the left."""
        affine = affine.detach().cpu().double()
        image = reorient_to(Volume(self.image, affine), DISPLAY)
        masks = [
            None if mask is None else reorient_to(Volume(mask, affine), DISPLAY).data
            for mask in self.masks
        ]
        truth, found = (
            None if boxes is None else boxes_between_grids(boxes, affine, image.affine)
            for boxes in (self.truth, self.found)
        )
        centre = self.centre
        if centre is not None and len(centre) == 3:
            point = torch.tensor([*centre, *centre], dtype=torch.float64)[None]
            centre = boxes_between_grids(point, affine, image.affine)[0, :3].tolist()
        return replace(
            self, image=image.data, spacing=image.spacing, masks=(masks[0], masks[1]),
            truth=truth, found=found, centre=centre, affine=image.affine,
        )  # fmt: skip

    def title(self, plane: Plane) -> str:
        """`axial, S 12 mm`, or the tensor's axis where no affine tells more."""
        if self.affine is None:
            return f"axis {plane.axis} at {plane.index}"
        return plane_title(self.affine, plane.axis, plane.index, self.image.shape)

    def sides(self, plane: Plane) -> tuple[str, str] | None:
        """What lies on the left and on the right of a plane, if that is known."""
        return None if self.affine is None else sides(self.affine, plane.columns)
