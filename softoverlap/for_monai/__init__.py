"""What plugs into MONAI: the detector on soft lesions."""

from softoverlap.for_monai.detector.anchor_grid import ExactAnchorGenerator
from softoverlap.for_monai.detector.detector import SoftRetinaNetDetector
from softoverlap.for_monai.detector.network import lesion_retinanet
from softoverlap.for_monai.detector.targets import lesion_target
from softoverlap.for_monai.detector.windows import AlignedWindowInferer

__all__ = [
    "AlignedWindowInferer",
    "ExactAnchorGenerator",
    "SoftRetinaNetDetector",
    "lesion_retinanet",
    "lesion_target",
]
