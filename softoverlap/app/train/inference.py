"""From a scan to boxes, scores and a heat map, all on the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap.app.train.checkpoint import LesionDetector
from softoverlap.app.train.scans import zoom, zoom_factor, zoom_size
from softoverlap.images import BoxFile, Volume, check_one_channel


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in a scan, by falling score.

    Args:
        box: Boxes in voxels of the scan, shape (N, 6).
        label: Classes, shape (N,).
        scores: Confidence in [0, 1], shape (N,).
        heat_map: The highest score of any anchor at each voxel, in [0, 1], shape (D, H, W).
        score_threshold: Score from which on a box is a finding, not a candidate, or None.
        threshold_rule: How the threshold was chosen, or None.
        smallest_anchor: Edges of the detector's smallest anchor in voxels of the scan, or None.

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
    score_threshold: float | None = None
    threshold_rule: str | None = None
    smallest_anchor: tuple[float, ...] | None = None

    @property
    def above(self) -> Bool[Tensor, "boxes"]:
        """Which boxes are findings: all, if there is no threshold."""
        return self.box_file().above

    def box_file(self, affine: Tensor | None = None, case: str | None = None) -> BoxFile:
        """The boxes as a file holds them."""
        threshold = self.score_threshold
        return BoxFile(
            self.box.double(), self.scores.double(), self.label.long(), affine, case,
            score_threshold=threshold,
            threshold_rule=None if threshold is None else self.threshold_rule,
            smallest_anchor=self.smallest_anchor,
        )  # fmt: skip

    @property
    def prediction(self) -> dict[str, Tensor]:
        """Boxes, labels and scores under MONAI's keys, as `compute_froc` takes them."""
        return {"box": self.box, "label": self.label, "label_scores": self.scores}


def detect(model: LesionDetector, image: Volume) -> Detections:
    """Find lesions in a scan, window by window.

    A scan at another spacing than the training's is resampled, and boxes and heat map come back
    on the scan's own grid. The network runs once: the heat map is read from the same maps as the
    boxes, the highest score of any anchor at each place. It is interpolated between places, so its
    peaks are a little lower than the best box's score.

    Args:
        model: A trained detector.
        image: The scan.

    Returns:
        Boxes in voxels of the scan, scores, labels and heat map, on the CPU.

    Raises:
        ValueError: If the scan has channels or an intensity is not finite.

    Examples:
        >>> from softoverlap.app.train import Intensity, TrainingConfig, build_detector
        >>> config = TrainingConfig(patch_size=16)
        >>> model = build_detector(config, (1.0, 1.0, 1.0), Intensity("scan"))
        >>> scan = Volume(torch.rand(20, 20, 10), torch.eye(4, dtype=torch.float64))
        >>> detect(model, scan).heat_map.shape
        torch.Size([20, 20, 10])
    """
    check_one_channel(image)
    if not bool(torch.isfinite(image.data).all()):
        raise ValueError("image must hold finite intensities, got NaN or infinity")
    factor = zoom_factor(image.spacing, model.spacing)
    data = model.intensity(image.data).cpu()
    data = zoom(data, factor, zoom_size(data.shape, factor))
    prediction, heat_map = _run(model, data.to(model.device))
    shape = tuple(image.data.shape)
    scale = torch.tensor([*factor, *factor], dtype=torch.float32)
    inverse = [1 / f for f in factor]
    return Detections(
        box=geometry.clip(prediction["boxes"].float().cpu() * scale, shape),
        label=prediction["labels"].cpu(),
        scores=prediction["labels_scores"].float().cpu(),
        heat_map=zoom(heat_map.cpu(), inverse, shape).clamp(0, 1),
        score_threshold=model.score_threshold,
        threshold_rule=model.threshold_rule,
        smallest_anchor=tuple(min(model.config.anchor_sizes) * f for f in factor),
    )


@torch.no_grad()
def _run(model: LesionDetector, data: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Detections and heat map on the network's own grid."""
    detector = model.detector.eval()
    amp = model.config.amp and data.device.type == "cuda"
    with torch.autocast(data.device.type, torch.bfloat16, enabled=amp):
        detections, levels = detector.detect_with_score_maps(data[None, None], use_inferer=True)
    return detections[0], _heat_map(levels, detector.size_divisible, data.shape)


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
