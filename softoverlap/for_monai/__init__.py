"""What plugs into MONAI: metrics, transforms, and the detector on soft lesions."""

from softoverlap.for_monai.boxes import BoxAPMetric, FROCMetric, OutcomesMetric
from softoverlap.for_monai.detector.anchor_grid import ExactAnchorGenerator
from softoverlap.for_monai.detector.detector import SoftRetinaNetDetector
from softoverlap.for_monai.detector.network import lesion_retinanet
from softoverlap.for_monai.detector.targets import lesion_target
from softoverlap.for_monai.detector.windows import AlignedWindowInferer
from softoverlap.for_monai.metrics import MeasureMetric, MetricSummary
from softoverlap.for_monai.reduction import reduce_scores
from softoverlap.for_monai.stand_ins import (
    LesionwiseDiceMetric,
    SoftDiceMetric,
    SoftIoUMetric,
    SoftTverskyMetric,
    ThresholdedDiceMetric,
)
from softoverlap.for_monai.surfaces import (
    SurfaceMeasure,
    ThresholdedHausdorff,
    ThresholdedSurfaceDice,
)
from softoverlap.for_monai.transforms import (
    FuseRatersd,
    LesionInstancesd,
    LesionsFromBoxesd,
    LesionsFromInstancesd,
    LesionWeightMapd,
    lesion_collate,
)

__all__ = [
    "AlignedWindowInferer",
    "BoxAPMetric",
    "ExactAnchorGenerator",
    "FROCMetric",
    "FuseRatersd",
    "LesionInstancesd",
    "LesionWeightMapd",
    "LesionsFromBoxesd",
    "LesionsFromInstancesd",
    "LesionwiseDiceMetric",
    "MeasureMetric",
    "MetricSummary",
    "OutcomesMetric",
    "SoftDiceMetric",
    "SoftIoUMetric",
    "SoftRetinaNetDetector",
    "SoftTverskyMetric",
    "SurfaceMeasure",
    "ThresholdedDiceMetric",
    "ThresholdedHausdorff",
    "ThresholdedSurfaceDice",
    "lesion_collate",
    "lesion_retinanet",
    "lesion_target",
    "reduce_scores",
]
