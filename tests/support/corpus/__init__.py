"""Damaged files of every format that the package reads, the same bytes from the same seed.

Each family is a function that takes a seed and yields `Damaged` files. Nothing large is written:
what opens to gigabytes is a few megabytes on disk.
"""

from collections.abc import Callable, Iterator
from functools import partial

from tests.support.corpus.boxes_json import FORMATS, json_boxes
from tests.support.corpus.boxes_tables import csv_boxes, npz_boxes
from tests.support.corpus.dicom import dicom
from tests.support.corpus.itk_text import meta, nrrd
from tests.support.corpus.nifti import mgh, nifti, nifti2, nifti_bytes, nifti_pair
from tests.support.corpus.places import box_places, image_places
from tests.support.corpus.record import AFFINE, Damaged

Family = Callable[[int], Iterator[Damaged]]

IMAGES: dict[str, Family] = {
    "nifti": nifti,
    "nifti2": nifti2,
    "nifti_pair": nifti_pair,
    "mgh": mgh,
    "nrrd": nrrd,
    "meta": meta,
    "dicom": dicom,
    "image_places": image_places,
}
"""Families of images, by name."""

BOXES: dict[str, Family] = {
    **{name: partial(json_boxes, name) for name in FORMATS},
    "csv": csv_boxes,
    "npz": npz_boxes,
    "box_places": box_places,
}
"""Families of files of boxes, by name."""

FAMILIES = IMAGES | BOXES


def every_box_file(seed: int) -> Iterator[Damaged]:
    """All files of boxes as one family, for commands that take none."""
    for make in BOXES.values():
        yield from make(seed)


_OTHER_FORMATS = {"instances": "nndetection", "npz": "nndetection", "box_places": "json"}


def box_format(family: str) -> str:
    """The name of the format that a family of files of boxes is read as."""
    return _OTHER_FORMATS.get(family, family)


SEED = 20260801
"""The seed of the stored figures."""

__all__ = [
    "AFFINE",
    "BOXES",
    "FAMILIES",
    "IMAGES",
    "SEED",
    "Damaged",
    "Family",
    "box_format",
    "every_box_file",
    "nifti_bytes",
]
