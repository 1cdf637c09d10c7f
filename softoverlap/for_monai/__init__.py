"""What plugs into MONAI: metrics, and the detector on soft lesions."""

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

__all__ = [
    "AlignedWindowInferer",
    "BoxAPMetric",
    "ExactAnchorGenerator",
    "FROCMetric",
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
    "lesion_retinanet",
    "lesion_target",
    "reduce_scores",
]
