"""Transforms for MONAI: lesions found once, carried through any spatial transform, read again."""

from softoverlap.for_monai.transforms.boxes import LesionsFromBoxesd
from softoverlap.for_monai.transforms.collating import lesion_collate
from softoverlap.for_monai.transforms.fusing import FuseRatersd
from softoverlap.for_monai.transforms.instances import LesionInstancesd
from softoverlap.for_monai.transforms.regions import LesionRegionsd
from softoverlap.for_monai.transforms.smoothing import SmoothForSpacingd
from softoverlap.for_monai.transforms.targets import LesionsFromInstancesd
from softoverlap.for_monai.transforms.weight_map import LesionWeightMapd

__all__ = [
    "FuseRatersd",
    "LesionInstancesd",
    "LesionRegionsd",
    "LesionWeightMapd",
    "LesionsFromBoxesd",
    "LesionsFromInstancesd",
    "SmoothForSpacingd",
    "lesion_collate",
]
