"""MONAI's detector on soft lesions: network, anchors, targets, training and inference."""

from softoverlap.detection.anchor_grid import ExactAnchorGenerator
from softoverlap.detection.checkpoint import (
    LesionDetector,
    build_detector,
    load_checkpoint,
    save_checkpoint,
)
from softoverlap.detection.config import TrainingConfig, pick_device
from softoverlap.detection.detector import SoftRetinaNetDetector
from softoverlap.detection.evaluation import Evaluation, evaluate
from softoverlap.detection.files import (
    FileResult,
    detect_files,
    find_scans,
    write_detections,
)
from softoverlap.detection.inference import Detections, detect
from softoverlap.detection.network import lesion_retinanet
from softoverlap.detection.patches import PatchSampler
from softoverlap.detection.scans import Intensity, TrainingScan, training_scan
from softoverlap.detection.schedule import Progress
from softoverlap.detection.targets import lesion_target
from softoverlap.detection.training import train
from softoverlap.detection.windows import AlignedWindowInferer

__all__ = [
    "AlignedWindowInferer",
    "Detections",
    "Evaluation",
    "ExactAnchorGenerator",
    "FileResult",
    "Intensity",
    "LesionDetector",
    "PatchSampler",
    "Progress",
    "SoftRetinaNetDetector",
    "TrainingConfig",
    "TrainingScan",
    "build_detector",
    "detect",
    "detect_files",
    "evaluate",
    "find_scans",
    "lesion_retinanet",
    "lesion_target",
    "load_checkpoint",
    "pick_device",
    "save_checkpoint",
    "train",
    "training_scan",
    "write_detections",
]
