"""Small geometries of cells."""

from __future__ import annotations

import numpy as np

from caloforge.geometry import Cell, CellGeometry, load_geometry


def grid(n: int, size: float = 10.0, *, layer: int = 0, name: str = "c") -> list[Cell]:
    """Return n x n square cells about the axis."""
    places = ((np.arange(n) - (n - 1) / 2) * size).tolist()
    return [Cell(f"{name}{i}-{j}", layer, x, y, size, size) for i, y in enumerate(places) for j, x in enumerate(places)]


def focal() -> CellGeometry:
    """Return FoCal-H prototype 2."""
    geometry = load_geometry("focal_h_prototype_2")
    assert isinstance(geometry, CellGeometry)
    return geometry


def unlike_cells() -> CellGeometry:
    """Return three layers: two alike of 5 x 5 cells, then one of 7 x 7 smaller ones that cover more."""
    layers = grid(5, 6.0, layer=0, name="a"), grid(5, 6.0, layer=1, name="b"), grid(7, 5.0, layer=4, name="c")
    return CellGeometry("unlike", tuple(cell for cells in layers for cell in cells))
