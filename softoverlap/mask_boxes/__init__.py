"""The mass of a soft mask inside a real-valued box: exact, and constant in the box's size.

A mask is piecewise constant on voxels, so its cumulative integral is linear along every axis
within a voxel: interpolating the summed-volume table (F. Crow, Summed-area tables for texture
mapping, 1984) between its nodes gives the integral at any real corner, and 2^ndim such corners
give the mass of a box. Parts of a box outside the table hold no mass. Tables and the arithmetic
on them are float64.
"""

from softoverlap.mask_boxes.by_kernels import kernels_take, scores_by_kernels
from softoverlap.mask_boxes.mass import mass_of_pairs
from softoverlap.mask_boxes.meeting import meeting_boxes, meeting_pairs
from softoverlap.mask_boxes.places import centres_of_mass, supports
from softoverlap.mask_boxes.polygons import polygon_masses
from softoverlap.mask_boxes.tables import SummedVolume, as_summed_volume, summed_volumes

__all__ = [
    "SummedVolume",
    "as_summed_volume",
    "centres_of_mass",
    "kernels_take",
    "mass_of_pairs",
    "meeting_boxes",
    "meeting_pairs",
    "polygon_masses",
    "scores_by_kernels",
    "summed_volumes",
    "supports",
]
