"""MONAI's detector on soft lesions: network, anchors, targets, training and inference."""

from softoverlap.detection.anchor_grid import ExactAnchorGenerator
from softoverlap.detection.detector import SoftRetinaNetDetector
from softoverlap.detection.network import lesion_retinanet
from softoverlap.detection.targets import lesion_target
from softoverlap.detection.windows import AlignedWindowInferer

__all__ = [
    "AlignedWindowInferer",
    "ExactAnchorGenerator",
    "SoftRetinaNetDetector",
    "lesion_retinanet",
    "lesion_target",
]
