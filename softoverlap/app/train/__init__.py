"""Train, evaluate and run the small lesion detector on scans from files."""

from softoverlap.app.train._old import (
    build_detector,
    keep_threshold,
    read_checkpoint,
    save_checkpoint,
)
from softoverlap.app.train.checkpoint import (
    LesionDetector,
    fresh_detector,
    load_checkpoint,
    write_checkpoint,
)
from softoverlap.app.train.config import TrainingConfig, pick_device
from softoverlap.app.train.detections import Detections
from softoverlap.app.train.evaluation import Evaluation, evaluate, scan_target
from softoverlap.app.train.facts import ScanFacts, scan_facts
from softoverlap.app.train.files import FileResult, detect_files, find_scans, write_detections
from softoverlap.app.train.inference import detect
from softoverlap.app.train.patches import PatchSampler
from softoverlap.app.train.planning import PlannedScans, plan_scans
from softoverlap.app.train.scans import (
    Intensity,
    TrainingScan,
    check_trainable,
    training_scan,
)
from softoverlap.app.train.schedule import Progress, learning_rate
from softoverlap.app.train.threshold import choose_threshold
from softoverlap.app.train.training import resumable, train

__all__ = [
    "Detections",
    "Evaluation",
    "FileResult",
    "Intensity",
    "LesionDetector",
    "PatchSampler",
    "PlannedScans",
    "Progress",
    "ScanFacts",
    "TrainingConfig",
    "TrainingScan",
    "build_detector",
    "check_trainable",
    "choose_threshold",
    "detect",
    "detect_files",
    "evaluate",
    "find_scans",
    "fresh_detector",
    "keep_threshold",
    "learning_rate",
    "load_checkpoint",
    "pick_device",
    "plan_scans",
    "read_checkpoint",
    "resumable",
    "save_checkpoint",
    "scan_facts",
    "scan_target",
    "train",
    "training_scan",
    "write_checkpoint",
    "write_detections",
]
