"""The calorimeter's read-out: rings of voxels around the shower axis, or any cells in any layers."""

from caloforge.geometry.base import Geometry
from caloforge.geometry.cells import Cell, CellGeometry
from caloforge.geometry.cylinder import CylindricalGeometry, Layer
from caloforge.geometry.named import (
    ATTRIBUTES,
    GEOMETRY_FILES,
    geometries_with,
    geometry_attributes,
    geometry_names,
    geometry_of,
    load_geometry,
    read_geometry,
    stored_geometry,
    write_geometry,
)

__all__ = [
    "ATTRIBUTES",
    "GEOMETRY_FILES",
    "Cell",
    "CellGeometry",
    "CylindricalGeometry",
    "Geometry",
    "Layer",
    "geometries_with",
    "geometry_attributes",
    "geometry_names",
    "geometry_of",
    "load_geometry",
    "read_geometry",
    "stored_geometry",
    "write_geometry",
]
