"""NIfTI with geometry, raters, lesions from masks, phantoms, exchange formats, training folders."""

from softoverlap.data.baseline import threshold_boxes
from softoverlap.data.boxes_io import BoxFile, read_boxes, write_boxes
from softoverlap.data.cases import LoadedCase, load_case, split_by_patient
from softoverlap.data.components import lesions_from_mask
from softoverlap.data.files import whole_file
from softoverlap.data.folders import Case, CaseTable, Unpaired, find_cases, patient_of
from softoverlap.data.geometry import (
    Volume,
    affine_spacing,
    boxes_to_world,
    check_affine,
    check_same_grid,
    corner_displacement,
)
from softoverlap.data.markups import write_markups
from softoverlap.data.nifti import load_nifti, save_nifti
from softoverlap.data.phantom_files import write_phantoms
from softoverlap.data.phantoms import LesionPhantoms, Phantom
from softoverlap.data.raters import Staple, fuse_raters, staple

__all__ = [
    "BoxFile",
    "Case",
    "CaseTable",
    "LesionPhantoms",
    "LoadedCase",
    "Phantom",
    "Staple",
    "Unpaired",
    "Volume",
    "affine_spacing",
    "boxes_to_world",
    "check_affine",
    "check_same_grid",
    "corner_displacement",
    "find_cases",
    "fuse_raters",
    "lesions_from_mask",
    "load_case",
    "load_nifti",
    "patient_of",
    "read_boxes",
    "save_nifti",
    "split_by_patient",
    "staple",
    "threshold_boxes",
    "whole_file",
    "write_boxes",
    "write_markups",
    "write_phantoms",
]
