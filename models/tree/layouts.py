"""Which tree a geometry has."""

from __future__ import annotations

from caloforge.errors import InputError
from caloforge.geometry import CellGeometry, CylindricalGeometry, Geometry
from caloforge.models.tree.cell_layout import CellLayout
from caloforge.models.tree.layout import Layout
from caloforge.models.tree.ring_layout import RingLayout


def layout_of(geometry: Geometry) -> Layout:
    """Return the tree of rings or of cells.

    Raises:
        InputError: the geometry is of neither kind, or has layers of too many cells.
    """
    if isinstance(geometry, CylindricalGeometry):
        return RingLayout(geometry)
    if isinstance(geometry, CellGeometry):
        return CellLayout(geometry)
    raise InputError(f"geometry {geometry.name!r} has neither rings nor cells; choose another family than tree")
