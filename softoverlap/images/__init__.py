"""Images, raters' files, scans from folders, and boxes in the formats of other tools."""

from softoverlap.images.alignment import Aligned, align_to, reorient_to
from softoverlap.images.cases import LoadedCase, load_case, split_by_patient
from softoverlap.images.files import check_written, whole_file
from softoverlap.images.folders import (
    Case,
    CaseTable,
    Unpaired,
    find_cases,
    find_raters,
    patient_of,
)
from softoverlap.images.formats.choice import FORMATS
from softoverlap.images.formats.exchange import (
    read_box_files,
    read_boxes,
    write_box_files,
    write_boxes,
)
from softoverlap.images.formats.label_map import read_label_map
from softoverlap.images.formats.markups import write_markups
from softoverlap.images.formats.ours import box_schema
from softoverlap.images.formats.record import BoxFile
from softoverlap.images.geometry import (
    NEAR_GRID,
    SAME_GRID,
    Volume,
    affine_spacing,
    boxes_to_world,
    check_affine,
    check_same_grid,
    corner_displacement,
)
from softoverlap.images.images import (
    IMAGE_SUFFIXES,
    image_name,
    is_image_name,
    load_image,
    load_nifti,
)
from softoverlap.images.nifti import forms_apart, save_nifti
from softoverlap.images.phantom_files import write_phantoms
from softoverlap.images.rater_files import RaterStack, label_to_read, load_raters
from softoverlap.images.tables import axis_names
from softoverlap.images.values import as_probabilities, value_kind

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "NEAR_GRID",
    "SAME_GRID",
    "Aligned",
    "BoxFile",
    "Case",
    "CaseTable",
    "LoadedCase",
    "RaterStack",
    "Unpaired",
    "Volume",
    "affine_spacing",
    "align_to",
    "as_probabilities",
    "axis_names",
    "box_schema",
    "boxes_to_world",
    "check_affine",
    "check_same_grid",
    "check_written",
    "corner_displacement",
    "find_cases",
    "find_raters",
    "forms_apart",
    "image_name",
    "is_image_name",
    "label_to_read",
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
    "value_kind",
    "whole_file",
    "write_box_files",
    "write_boxes",
    "write_markups",
    "write_phantoms",
]
