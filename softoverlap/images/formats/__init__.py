"""Boxes in the formats of other tools: read into `BoxFile`, written from it."""

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

__all__ = [
    "FORMATS",
    "BoxFile",
    "box_schema",
    "read_box_files",
    "read_boxes",
    "read_label_map",
    "write_box_files",
    "write_boxes",
    "write_markups",
]
