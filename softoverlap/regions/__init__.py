"""Regions of the plane or of a torus: polygons with holes, and densities on grids."""

from softoverlap.regions.densities import (
    cells,
    check_densities,
    highest_density_region,
    mass,
    shared_mass,
)
from softoverlap.regions.edges import area, shared_area
from softoverlap.regions.polygon import Polygon, check_on_torus, edges_of

__all__ = [
    "Polygon",
    "area",
    "cells",
    "check_densities",
    "check_on_torus",
    "edges_of",
    "highest_density_region",
    "mass",
    "shared_area",
    "shared_mass",
]
