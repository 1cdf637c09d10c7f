"""What one detector finds in a scan: boxes, scores and a heat map, all on the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Orientation, SpatialResample
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap._types import plain
from softoverlap.app.train.checkpoint import LesionDetector
from softoverlap.for_monai import BoxesToOriginald, CentreDetector
from softoverlap.images import BoxFile, Volume, axis_codes, check_affine


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in a scan, by falling score.

    Args:
        box: Boxes in voxels of the scan, shape (N, 6).
        label: Classes, shape (N,).
        scores: Confidence in [0, 1], shape (N,).
        heat_map: The highest score of any anchor and class at each voxel, in [0, 1], shape
            (D, H, W).
        score_threshold: Score from which on a box is a finding, not a candidate, or None.
        threshold_rule: How the threshold was chosen, or None.
        smallest_anchor: Edges of the detector's smallest anchor in voxels of the scan, or None.
        class_values: The value of each class in label maps, which files hold as its label, or None.

    Examples:
        >>> nothing = Detections(
        ...     torch.zeros(0, 6), torch.zeros(0).long(), torch.zeros(0), torch.zeros(4, 4, 4)
        ... )
        >>> sorted(nothing.prediction)
        ['box', 'label', 'label_scores']
    """

    box: Float[Tensor, "boxes 6"]
    label: Int[Tensor, "boxes"]
    scores: Float[Tensor, "boxes"]
    heat_map: Float[Tensor, "depth height width"]
    score_threshold: float | int | None = None
    threshold_rule: str | None = None
    smallest_anchor: tuple[float, ...] | None = None
    class_values: tuple[int, ...] | None = None

    @property
    def above(self) -> Bool[Tensor, "boxes"]:
        """Which boxes are findings: all, if there is no threshold."""
        return self.box_file().above

    def box_file(self, affine: Tensor | None = None, case: str | None = None) -> BoxFile:
        """The boxes as a file holds them: a class by its value in label maps, if it has one."""
        threshold = self.score_threshold
        file = BoxFile(
            self.box.double(), self.scores.double(), self.label.long(), affine, case,
            score_threshold=threshold,
            threshold_rule=None if threshold is None else self.threshold_rule,
            smallest_anchor=self.smallest_anchor,
        )  # fmt: skip
        return file.with_class_values(self.class_values)

    @property
    def prediction(self) -> dict[str, Tensor]:
        """Boxes, labels and scores under MONAI's keys, as `compute_froc` takes them."""
        return {"box": self.box, "label": self.label, "label_scores": self.scores}


def limited(found: Detections, score: float | int | None, most: int | None) -> Detections:
    """The boxes of at least this score, the first ones, which have the highest."""
    kept = slice(most) if score is None else (found.scores >= score).nonzero()[:most, 0]
    return replace(found, box=found.box[kept], label=found.label[kept], scores=found.scores[kept])


def scan_of(image: Volume | Tensor) -> Volume:
    """The image with its channels as first axis, and its affine."""
    if isinstance(image, Volume):
        return Volume(plain(image.data).reshape(-1, *image.grid), image.affine)
    if not isinstance(image, MetaTensor):
        raise TypeError(f"image must be a Volume or a MetaTensor, got {type(image).__name__}")
    if image.ndim != 4:
        raise refusal("image", f"must have shape (C, D, H, W), got {tuple(image.shape)}")
    return Volume(plain(image), check_affine(torch.as_tensor(image.affine)))


def check_channels(scan: Volume, model: LesionDetector, name: str = "image") -> None:
    """The scan has the channels that the network was trained on."""
    count, names = model.settings["in_channels"], model.settings["channel_names"]
    if len(scan.data) != count:
        channels = "one channel" if count == 1 else f"{count} channels"
        told = f" ({', '.join(map(str, names))})" if count > 1 and names else ""
        raise ValueError(
            f"{name} must hold {channels}{told}, as the scans of the training, got "
            f"{len(scan.data)} of {' x '.join(map(str, scan.grid))} voxels"
        )


def detect_alone(model: LesionDetector, scan: Volume) -> Detections:
    """What one detector finds in a scan, shape (C, D, H, W)."""
    image = model.prepare({"image": _as_item(scan)})["image"]
    there = torch.as_tensor(image.affine).double()
    found, heat_map = _run(model, plain(image).float().contiguous().to(model.device))
    found = {key: value.cpu() for key, value in found.items()}
    found = BoxesToOriginald()({"image": image, "pred": found})["pred"]
    values = model.settings["class_values"]
    return Detections(
        box=found["boxes"].float(),
        label=found["labels"].long(),
        scores=found["labels_scores"].float(),
        heat_map=_onto(heat_map.float().cpu(), there, scan),
        score_threshold=model.score_threshold,
        threshold_rule=model.threshold_rule,
        smallest_anchor=_smallest_anchor(model, there, scan),
        class_values=None if values is None else tuple(values),
    )


def _as_item(scan: Volume) -> MetaTensor:
    """A copy, since MONAI normalises intensities in place, that knows its own grid."""
    grid = {"original_affine": scan.affine.clone(), "spatial_shape": torch.tensor(scan.grid)}
    return MetaTensor(scan.data.float().clone(), affine=scan.affine.clone(), meta=grid)


@torch.no_grad()
def _run(model: LesionDetector, data: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Detections and heat map on the network's own grid."""
    detector = model.detector.eval()
    amp = model.amp and data.device.type == "cuda"
    with torch.autocast(data.device.type, torch.bfloat16, enabled=amp):
        detections, levels = detector.detect_with_score_maps(data[None], use_inferer=True)
    return detections[0], _heat_map(levels, detector.size_divisible, data.shape[1:])


def _heat_map(
    levels: Sequence[Float[Tensor, "1 1 _ _ _"]],
    stride: Sequence[int],
    size: Sequence[int],
) -> Float[Tensor, "depth height width"]:
    """Highest score of any anchor and level at each voxel of the image, before its padding."""
    padded = [-(-voxels // step) * step for voxels, step in zip(size, stride, strict=True)]
    grown = [
        F.interpolate(level, size=padded, mode="trilinear", align_corners=False) for level in levels
    ]
    inside = tuple(slice(voxels) for voxels in size)
    return torch.stack([level[0, 0] for level in grown]).amax(dim=0)[inside]


def _onto(
    heat_map: Float[Tensor, "depth height width"], affine: Float64[Tensor, "4 4"], scan: Volume
) -> Float[Tensor, "depth_ height_ width_"]:
    """The heat map on the scan's grid: exact where only the order of axes differs."""
    there = MetaTensor(heat_map[None], affine=affine)
    turned = Orientation(axcodes=axis_codes(scan.affine), labels=None)(there)
    onto = SpatialResample(mode="bilinear", padding_mode="border", dtype=np.float32)
    here = onto(turned, dst_affine=scan.affine, spatial_size=scan.grid)
    return plain(here)[0].clamp(0, 1).contiguous()


def _smallest_anchor(
    model: LesionDetector, affine: Float64[Tensor, "4 4"], scan: Volume
) -> tuple[float, ...] | None:
    """Edges of the anchor of the least volume, in voxels of the scan; None without anchors."""
    if isinstance(model.detector, CentreDetector):
        return None
    anchors = torch.cat(list(model.detector.anchor_generator.cell_anchors)).double().cpu()
    edges = anchors[:, 3:] - anchors[:, :3]
    turn = torch.linalg.inv(scan.affine[:3, :3]) @ affine[:3, :3]
    return tuple((turn.abs() @ edges[edges.prod(dim=1).argmin()]).tolist())
