"""Train, evaluate and run the lesion detector of the bundle on scans from files."""

from softoverlap.app.train.checkpoint import (
    LesionDetector,
    fresh_detector,
    load_checkpoint,
    write_checkpoint,
)
from softoverlap.app.train.configuration import data_settings, training_config
from softoverlap.app.train.detections import Detections
from softoverlap.app.train.device import pick_device
from softoverlap.app.train.evaluation import Evaluation, evaluate, scan_target
from softoverlap.app.train.facts import ScanFacts, scan_facts
from softoverlap.app.train.files import FileResult, detect_files, find_scans, write_detections
from softoverlap.app.train.inference import detect
from softoverlap.app.train.planning import PlannedScans, plan_scans
from softoverlap.app.train.progress import Progress
from softoverlap.app.train.reading import (
    CheckedScans,
    few_held_out,
    no_lesion,
    read_case,
    training_split,
)
from softoverlap.app.train.running import Trained, TrainingRun, train

__all__ = [
    "CheckedScans",
    "Detections",
    "Evaluation",
    "FileResult",
    "LesionDetector",
    "PlannedScans",
    "Progress",
    "ScanFacts",
    "Trained",
    "TrainingRun",
    "data_settings",
    "detect",
    "detect_files",
    "evaluate",
    "few_held_out",
    "find_scans",
    "fresh_detector",
    "load_checkpoint",
    "no_lesion",
    "pick_device",
    "plan_scans",
    "read_case",
    "scan_facts",
    "scan_target",
    "train",
    "training_config",
    "training_split",
    "write_checkpoint",
    "write_detections",
]
