"""Images, raters' masks and scans from files, and boxes in the formats of other tools."""

from softoverlap.images.alignment import (
    CLOSE_GRID,
    GEOMETRIES,
    TRUSTED_GRID,
    AlignedVolume,
    align_to,
    geometry_hint,
    reorient_to,
)
from softoverlap.images.bids_names import BIDS_MASKS, bids_entities, bids_subject
from softoverlap.images.cases import LoadedCase, load_case, noted_channels
from softoverlap.images.common_grid import CommonGrid, boxes_between_grids, on_common_grid
from softoverlap.images.default_affine import lost_affine
from softoverlap.images.files import check_written, is_dangling, link_fault, whole_file
from softoverlap.images.folds import (
    SPLITS,
    Split,
    folds_by_patient,
    read_splits,
    split_by_patient,
    split_of,
    write_splits,
)
from softoverlap.images.formats.choice import FORMATS, format_of, format_to_write, is_in_mm
from softoverlap.images.formats.exchange import (
    noted_box_files,
    read_box_files,
    read_boxes,
    write_box_files,
    write_boxes,
)
from softoverlap.images.formats.label_map import read_label_map
from softoverlap.images.formats.label_table import tables_beside, written_files
from softoverlap.images.formats.markups import MARKUPS_SCHEMA, roi_sizes, write_markups
from softoverlap.images.formats.monai import ListEntry
from softoverlap.images.formats.ours import box_schema
from softoverlap.images.formats.record import BoxFile, Hints, axis_names, bare_name
from softoverlap.images.formats.table import listed_cases, listed_points
from softoverlap.images.formats.world import growth_of
from softoverlap.images.geometry import (
    NEAR_GRID,
    SAME_GRID,
    Volume,
    affine_spacing,
    axis_codes,
    boxes_to_world,
    check_affine,
    check_one_channel,
    check_same_grid,
    corner_displacement,
    lesion_spacing,
    voxel_volume,
)
from softoverlap.images.images import (
    IMAGE_SUFFIXES,
    SEGMENTATION_SUFFIX,
    image_name,
    is_image_name,
    is_other_image,
    load_image,
    load_nifti,
    load_one_volume,
    noted_image,
    noted_one_volume,
    stored_type,
)
from softoverlap.images.layouts.choice import LAYOUTS, Layout, find_cases
from softoverlap.images.layouts.names import patient_of
from softoverlap.images.layouts.nnunet import CHANNEL_NAME
from softoverlap.images.layouts.ours import find_raters
from softoverlap.images.layouts.record import Case, CaseTable, Fold, LabelMap
from softoverlap.images.lidc import LidcCharacteristics, LidcNodule, LidcScan, read_lidc
from softoverlap.images.limits import ReadLimits, current_limits, read_limits
from softoverlap.images.nifti import forms_apart, save_nifti
from softoverlap.images.nnunet_maps import (
    check_map_is_there,
    find_maps,
    grid_file,
    is_nnunet_map,
    load_nnunet_map,
    map_name,
    maps_left_out,
)
from softoverlap.images.noted import Noted
from softoverlap.images.phantom_files import write_lesion_scans, write_phantoms
from softoverlap.images.plans import read_plan
from softoverlap.images.rater_files import RaterStack, is_label_map, label_to_read, load_raters
from softoverlap.images.sources import (
    Unpaired,
    check_names,
    find_files,
    is_dicom_folder,
    left_out,
    unread,
)
from softoverlap.images.texts import (
    TextTable,
    parse_json,
    read_json,
    read_table,
    write_json,
    write_table,
)
from softoverlap.images.values import (
    VALUES,
    as_probabilities,
    noted_probabilities,
    unscaled,
    value_kind,
)

__all__ = [
    "BIDS_MASKS",
    "CHANNEL_NAME",
    "CLOSE_GRID",
    "FORMATS",
    "GEOMETRIES",
    "IMAGE_SUFFIXES",
    "LAYOUTS",
    "MARKUPS_SCHEMA",
    "NEAR_GRID",
    "SAME_GRID",
    "SEGMENTATION_SUFFIX",
    "SPLITS",
    "TRUSTED_GRID",
    "VALUES",
    "AlignedVolume",
    "BoxFile",
    "Case",
    "CaseTable",
    "CommonGrid",
    "Fold",
    "Hints",
    "LabelMap",
    "Layout",
    "LidcCharacteristics",
    "LidcNodule",
    "LidcScan",
    "ListEntry",
    "LoadedCase",
    "Noted",
    "RaterStack",
    "ReadLimits",
    "Split",
    "TextTable",
    "Unpaired",
    "Volume",
    "affine_spacing",
    "align_to",
    "as_probabilities",
    "axis_codes",
    "axis_names",
    "bare_name",
    "bids_entities",
    "bids_subject",
    "box_schema",
    "boxes_between_grids",
    "boxes_to_world",
    "check_affine",
    "check_map_is_there",
    "check_names",
    "check_one_channel",
    "check_same_grid",
    "check_written",
    "corner_displacement",
    "current_limits",
    "find_cases",
    "find_files",
    "find_maps",
    "find_raters",
    "folds_by_patient",
    "format_of",
    "format_to_write",
    "forms_apart",
    "geometry_hint",
    "grid_file",
    "growth_of",
    "image_name",
    "is_dangling",
    "is_dicom_folder",
    "is_image_name",
    "is_in_mm",
    "is_label_map",
    "is_nnunet_map",
    "is_other_image",
    "label_to_read",
    "left_out",
    "lesion_spacing",
    "link_fault",
    "listed_cases",
    "listed_points",
    "load_case",
    "load_image",
    "load_nifti",
    "load_nnunet_map",
    "load_one_volume",
    "load_raters",
    "lost_affine",
    "map_name",
    "maps_left_out",
    "noted_box_files",
    "noted_channels",
    "noted_image",
    "noted_one_volume",
    "noted_probabilities",
    "on_common_grid",
    "parse_json",
    "patient_of",
    "read_box_files",
    "read_boxes",
    "read_json",
    "read_label_map",
    "read_lidc",
    "read_limits",
    "read_plan",
    "read_splits",
    "read_table",
    "reorient_to",
    "roi_sizes",
    "save_nifti",
    "split_by_patient",
    "split_of",
    "stored_type",
    "tables_beside",
    "unread",
    "unscaled",
    "value_kind",
    "voxel_volume",
    "whole_file",
    "write_box_files",
    "write_boxes",
    "write_json",
    "write_lesion_scans",
    "write_markups",
    "write_phantoms",
    "write_splits",
    "write_table",
    "written_files",
]
