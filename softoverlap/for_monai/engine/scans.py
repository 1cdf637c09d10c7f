"""Whole scans: what measures ask of their targets, and boxes on their own grid and in files."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms.transform import Transform

from softoverlap import boxes as geometry
from softoverlap._checks import check_threshold
from softoverlap._size_limit import too_large
from softoverlap._types import plain
from softoverlap._units import MAX_LESION_MM
from softoverlap.for_monai.detector.targets import centred_in
from softoverlap.images import BoxFile, affine_spacing, boxes_between_grids, write_box_files
from softoverlap.overlaps import box_iou


class MeasuredTargetd(Transform):
    """Adds what measures ask of the target of a scan.

    These are `"spacing"`, the edges of a voxel in mm, and `"ignored"`, True for lesions too large
    for a box, which are neither hit nor missed. It stands where the boxes are made, before the
    image is brought to another spacing.

    Args:
        image_key: Key of the image, a `MetaTensor`.
        box_key: Key of the boxes.
        max_mm: The longest edge of a lesion that counts, in mm.

    Examples:
        >>> from monai.data import MetaTensor
        >>> scan = {"image": MetaTensor(torch.zeros(1, 8, 8, 8)), "boxes": torch.zeros(0, 6)}
        >>> sorted(MeasuredTargetd()(scan))
        ['boxes', 'ignored', 'image', 'spacing']
    """

    def __init__(
        self,
        image_key: str = "image",
        box_key: str = "boxes",
        max_mm: float | int = MAX_LESION_MM,
    ) -> None:
        self.image_key, self.box_key, self.max_mm = image_key, box_key, float(max_mm)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The scan with spacing, a tuple, and ignored lesions, shape (M,).

        Args:
            data: A scan with image and boxes.

        Returns:
            The same with two keys more.
        """
        spacing = affine_spacing(torch.as_tensor(data[self.image_key].affine).double())
        ignored = too_large(data[self.box_key], spacing, self.max_mm)
        return {**data, "spacing": spacing, "ignored": ignored}


class BoxesToOriginald(Transform):
    """Brings detections from the grid of the network's image to that of the scan's file.

    The inverse of `Orientationd`, `Spacingd`, flips, crops and pads for boxes: it reads where the
    image went from its affine. Where the axes were turned by other than quarters, a box becomes
    the one around it. It stands in the postprocessing of an evaluator.

    Args:
        pred_key: Key of the detections of an image.
        image_key: Key of the image, a `MetaTensor` with `"original_affine"` and
            `"spatial_shape"`, as MONAI's readers and `LoadLesionCased` leave them.
        box_key: Key of the boxes in the detections.

    Raises:
        ValueError: On use, if the image has no such affine.

    Examples:
        >>> from monai.data import MetaTensor
        >>> affine = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))  # of voxels twice as large
        >>> affine[:3, 3] = 0.5  # whose first corner is that of the file's
        >>> meta = {"original_affine": torch.eye(4), "spatial_shape": torch.tensor([8, 8, 8])}
        >>> image = MetaTensor(torch.zeros(1, 4, 4, 4), affine=affine, meta=meta)
        >>> found = {"boxes": torch.tensor([[0.0, 1.0, 2.0, 1.0, 2.0, 3.0]])}
        >>> BoxesToOriginald()({"image": image, "pred": found})["pred"]["boxes"]
        tensor([[0., 2., 4., 2., 4., 6.]])
    """

    def __init__(
        self, pred_key: str = "pred", image_key: str = "image", box_key: str = "boxes"
    ) -> None:
        self.pred_key, self.image_key, self.box_key = pred_key, image_key, box_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The scan with its detections in voxels of the file.

        Args:
            data: A scan with image and detections.

        Returns:
            The same, boxes clipped to the file's grid.
        """
        image, found = data[self.image_key], data[self.pred_key]
        meta = getattr(image, "meta", {})
        if "original_affine" not in meta or "spatial_shape" not in meta:
            raise ValueError(
                f"data[{self.image_key!r}] must know its file's affine to bring boxes back, got "
                f"{type(image).__name__} without: keep MetaTensor until here"
            )
        there = torch.as_tensor(meta["original_affine"]).double()
        boxes = plain(found[self.box_key])
        moved = boxes_between_grids(boxes, torch.as_tensor(image.affine).double(), there)
        shape = tuple(int(side) for side in torch.as_tensor(meta["spatial_shape"]).tolist())
        return {**data, self.pred_key: {**found, self.box_key: geometry.clip(moved, shape)}}


class DropUnlabelledBoxesd(Transform):
    """Takes out detections where nobody has labelled, so that measures count nothing there.

    A box goes if its centre lies in a voxel without label and it hits no lesion. It follows
    `BoxesToOriginald` in the postprocessing of an evaluator.

    Args:
        pred_key: Key of the detections of an image.
        unlabelled_key: Key of the voxels without label, shape (1, *spatial), or None.
        box_key: Key of the boxes of the lesions.
        hit: Least IoU with the box of a lesion that is hit, in (0, 1].

    Examples:
        >>> boxes, labels = torch.tensor([[0.0, 2.0], [4.0, 6.0]]), torch.tensor([0, 1])
        >>> unlabelled = torch.tensor([[False] * 4 + [True] * 4])
        >>> scan = {"boxes": torch.zeros(0, 2), "unlabelled": unlabelled}
        >>> scan["pred"] = {"boxes": boxes, "labels": labels}
        >>> DropUnlabelledBoxesd()(scan)["pred"]["labels"]
        tensor([0])
    """

    def __init__(
        self,
        pred_key: str = "pred",
        unlabelled_key: str = "unlabelled",
        box_key: str = "boxes",
        hit: float | int = 0.1,
    ) -> None:
        check_threshold(hit=hit)
        self.pred_key, self.unlabelled_key, self.box_key = pred_key, unlabelled_key, box_key
        self.hit = float(hit)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The scan with the detections that count.

        Args:
            data: A scan with detections, lesions, and voxels without label, on one grid.

        Returns:
            The same, with fewer detections.
        """
        unlabelled = data.get(self.unlabelled_key)
        if unlabelled is None:
            return dict(data)
        found = {key: plain(column) for key, column in data[self.pred_key].items()}
        boxes, truth = found["boxes"], plain(data[self.box_key])
        lost = centred_in(boxes, unlabelled)
        if len(truth):
            lost &= ~(box_iou(boxes, truth.to(boxes)) >= self.hit).any(dim=1)
        return {**data, self.pred_key: {key: column[~lost] for key, column in found.items()}}


class SaveLesionBoxesd(Transform):
    """Writes the detections of a scan to `NAME_boxes.json`, as `softoverlap detect` does.

    It follows `BoxesToOriginald` in the postprocessing of an evaluator.

    Args:
        output_dir: Folder of the files; made on first use.
        pred_key: Key of the detections of an image.
        image_key: Key of the image, for the affine of its file.
        name_key: Key of the scan's name.
        score_threshold: Score from which on a box is a finding, or None.
        threshold_rule: How that threshold was chosen, in words, or None.
        class_values: The value of each class in label maps, which is then the label of its boxes;
            None for the number of the class.

    Examples:
        >>> import tempfile
        >>> from monai.data import MetaTensor
        >>> folder = tempfile.mkdtemp()
        >>> found = {"boxes": torch.tensor([[0.0, 0, 0, 4, 4, 4]]), "labels": torch.tensor([0])}
        >>> found["labels_scores"] = torch.tensor([0.5])
        >>> scan = {"image": MetaTensor(torch.zeros(1, 8, 8, 8)), "pred": found, "name": "sub-01"}
        >>> _ = SaveLesionBoxesd(folder)(scan)
        >>> [path.name for path in Path(folder).iterdir()]
        ['sub-01_boxes.json']
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        pred_key: str = "pred",
        image_key: str = "image",
        name_key: str = "name",
        score_threshold: float | int | None = None,
        threshold_rule: str | None = None,
        class_values: Sequence[int] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.pred_key, self.image_key, self.name_key = pred_key, image_key, name_key
        rule = None if score_threshold is None else threshold_rule
        self.finding: dict[str, Any] = {"score_threshold": score_threshold, "threshold_rule": rule}
        self.class_values = class_values

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the file, and leave the scan as it is.

        Args:
            data: A scan with image, detections and name.

        Returns:
            The same.
        """
        found, image, name = data[self.pred_key], data[self.image_key], str(data[self.name_key])
        affine = torch.as_tensor(image.meta.get("original_affine", image.affine))
        self.output_dir.mkdir(parents=True, exist_ok=True)
        boxes = BoxFile(
            plain(found["boxes"]).cpu().double(), plain(found["labels_scores"]).cpu().double(),
            plain(found["labels"]).cpu().long(), affine.cpu().double(), name, **self.finding,
        )  # fmt: skip
        boxes = boxes.with_class_values(self.class_values)
        write_box_files(self.output_dir / f"{name}_boxes.json", {name: boxes})
        return dict(data)
