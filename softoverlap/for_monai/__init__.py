"""What plugs into MONAI: metrics, transforms, the detector, and what its engines need."""

from softoverlap.for_monai.boxes import BoxAPMetric, FROCMetric, OutcomesMetric
from softoverlap.for_monai.detector.anchor_grid import ExactAnchorGenerator
from softoverlap.for_monai.detector.centre import CentreDetector, centre_retinanet
from softoverlap.for_monai.detector.detector import SoftRetinaNetDetector
from softoverlap.for_monai.detector.exported import export_network
from softoverlap.for_monai.detector.heads import DetectorHead, detector_head
from softoverlap.for_monai.detector.loss_terms import HeatMapFocal, QualityFocal, taken_by
from softoverlap.for_monai.detector.network import lesion_retinanet
from softoverlap.for_monai.detector.targets import lesion_target
from softoverlap.for_monai.detector.windows import AlignedWindowInferer
from softoverlap.for_monai.engine.batches import prepare_lesion_batch, scans_per_batch
from softoverlap.for_monai.engine.cases import (
    LoadLesionCased,
    lesion_cases,
    scans_to_detect,
    write_split,
)
from softoverlap.for_monai.engine.handlers import (
    BestCheckpoint,
    ClipGradients,
    EarlyStop,
    ScalerState,
    SeedEachEpoch,
    ValidateEpochs,
)
from softoverlap.for_monai.engine.inferer import DetectionLoss, DetectorInferer
from softoverlap.for_monai.engine.log import ClassScores, CurveTable
from softoverlap.for_monai.engine.pictures import FoundPictures
from softoverlap.for_monai.engine.readable import ReadableDataset, write_failures
from softoverlap.for_monai.engine.scans import (
    BoxesToOriginald,
    DropUnlabelledBoxesd,
    MeasuredTargetd,
    SaveLesionBoxesd,
)
from softoverlap.for_monai.engine.schedule import WarmupCosine, warmup_cosine
from softoverlap.for_monai.engine.settings import RunSettings, read_checkpoint, read_settings
from softoverlap.for_monai.metrics import MeasureMetric, MetricSummary
from softoverlap.for_monai.reduction import reduce_scores, reduce_statistics, reduction_of
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
    LesionRegionsd,
    LesionsFromBoxesd,
    LesionsFromInstancesd,
    LesionWeightMapd,
    SmoothForSpacingd,
    lesion_collate,
)
from softoverlap.for_monai.transforms.collating import PerItem

__all__ = [
    "AlignedWindowInferer",
    "BestCheckpoint",
    "BoxAPMetric",
    "BoxesToOriginald",
    "CentreDetector",
    "ClassScores",
    "ClipGradients",
    "CurveTable",
    "DetectionLoss",
    "DetectorHead",
    "DetectorInferer",
    "DropUnlabelledBoxesd",
    "EarlyStop",
    "ExactAnchorGenerator",
    "FROCMetric",
    "FoundPictures",
    "FuseRatersd",
    "HeatMapFocal",
    "LesionInstancesd",
    "LesionRegionsd",
    "LesionWeightMapd",
    "LesionsFromBoxesd",
    "LesionsFromInstancesd",
    "LesionwiseDiceMetric",
    "LoadLesionCased",
    "MeasureMetric",
    "MeasuredTargetd",
    "MetricSummary",
    "OutcomesMetric",
    "PerItem",
    "QualityFocal",
    "ReadableDataset",
    "RunSettings",
    "SaveLesionBoxesd",
    "ScalerState",
    "SeedEachEpoch",
    "SmoothForSpacingd",
    "SoftDiceMetric",
    "SoftIoUMetric",
    "SoftRetinaNetDetector",
    "SoftTverskyMetric",
    "SurfaceMeasure",
    "ThresholdedDiceMetric",
    "ThresholdedHausdorff",
    "ThresholdedSurfaceDice",
    "ValidateEpochs",
    "WarmupCosine",
    "centre_retinanet",
    "detector_head",
    "export_network",
    "lesion_cases",
    "lesion_collate",
    "lesion_retinanet",
    "lesion_target",
    "prepare_lesion_batch",
    "read_checkpoint",
    "read_settings",
    "reduce_scores",
    "reduce_statistics",
    "reduction_of",
    "scans_per_batch",
    "scans_to_detect",
    "taken_by",
    "warmup_cosine",
    "write_failures",
    "write_split",
]
