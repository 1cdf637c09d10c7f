"""Images, raters, lesions from masks, phantoms, exchange formats, training folders."""

from softoverlap.data.alignment import Aligned, align_to, reorient_to
from softoverlap.data.baseline import threshold_boxes
from softoverlap.data.cases import LoadedCase, load_case, split_by_patient
from softoverlap.data.components import lesions_from_mask
from softoverlap.data.files import whole_file
from softoverlap.data.folders import Case, CaseTable, Unpaired, find_cases, find_raters, patient_of
from softoverlap.data.formats import (
    FORMATS,
    BoxFile,
    box_schema,
    read_box_files,
    read_boxes,
    read_label_map,
    write_box_files,
    write_boxes,
    write_markups,
)
from softoverlap.data.geometry import (
    Volume,
    affine_spacing,
    boxes_to_world,
    check_affine,
    check_same_grid,
    corner_displacement,
)
from softoverlap.data.images import (
    IMAGE_SUFFIXES,
    image_name,
    is_image_name,
    load_image,
    load_nifti,
)
from softoverlap.data.nifti import save_nifti
from softoverlap.data.phantom_files import write_phantoms
from softoverlap.data.phantoms import LesionPhantoms, Phantom
from softoverlap.data.rater_files import RaterStack, load_raters
from softoverlap.data.raters import Staple, fuse_raters, staple
from softoverlap.data.values import as_probabilities, value_kind

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "Aligned",
    "BoxFile",
    "Case",
    "CaseTable",
    "LesionPhantoms",
    "LoadedCase",
    "Phantom",
    "RaterStack",
    "Staple",
    "Unpaired",
    "Volume",
    "affine_spacing",
    "align_to",
    "as_probabilities",
    "box_schema",
    "boxes_to_world",
    "check_affine",
    "check_same_grid",
    "corner_displacement",
    "find_cases",
    "find_raters",
    "fuse_raters",
    "image_name",
    "is_image_name",
    "lesions_from_mask",
    "load_case",
    "load_image",
    "load_nifti",
    "load_raters",
    "patient_of",
    "read_box_files",
    "read_boxes",
    "read_label_map",
    "reorient_to",
    "save_nifti",
    "split_by_patient",
    "staple",
    "threshold_boxes",
    "value_kind",
    "whole_file",
    "write_box_files",
    "write_boxes",
    "write_markups",
    "write_phantoms",
]
