"""NIfTI with geometry, lesions from masks, phantoms, exchange formats, training folders."""

from softoverlap.data.components import lesions_from_mask
from softoverlap.data.files import whole_file
from softoverlap.data.geometry import (
    Volume,
    affine_spacing,
    boxes_to_world,
    check_affine,
    check_same_grid,
    corner_displacement,
)
from softoverlap.data.nifti import load_nifti, save_nifti

__all__ = [
    "Volume",
    "affine_spacing",
    "boxes_to_world",
    "check_affine",
    "check_same_grid",
    "corner_displacement",
    "lesions_from_mask",
    "load_nifti",
    "save_nifti",
    "whole_file",
]
