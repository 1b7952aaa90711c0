"""Which voxel holds a point: for hits that come with a place and no channel."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.geometry import CellGeometry, CylindricalGeometry, Geometry

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Finder = Callable[[IntArray, FloatArray, FloatArray], IntArray]
"""Takes layer, x and y in mm of (H,) hits and returns their voxels (H,), -1 where there is none."""

_NEAR = 1e-6
"""mm; edges that are nearer to each other are one."""

_MOST = 50_000_000
"""Fields of the grid that the edges of all cells make."""


@singledispatch
def finder(geometry: Geometry) -> Finder:
    """Return what finds the voxels of a geometry.

    Raises:
        InputError: its kind is not known, or its cells share too few edges.
    """
    raise InputError(f"geometry {geometry}: hits cannot be sorted into its voxels by their place; name their channels")


@finder.register
def _of_cells(geometry: CellGeometry) -> Finder:
    grids = [_Grid(geometry, place) for place in geometry.layer_slices]
    return lambda layer, x, y: _by_layer(grids, layer, x, y)


@finder.register
def _of_rings(geometry: CylindricalGeometry) -> Finder:
    def rings(index: int) -> Callable[[FloatArray, FloatArray], IntArray]:
        layer, first = geometry.active_layers[index], geometry.layer_slices[index].start
        edges = np.asarray(layer.r_edges)

        def find(x: FloatArray, y: FloatArray) -> IntArray:
            r = np.searchsorted(edges, np.hypot(x, y), side="right") - 1
            turned = (np.arctan2(y, x) + np.pi) / (2 * np.pi) * layer.n_alpha
            alpha = np.minimum(turned.astype(np.int64), layer.n_alpha - 1)
            return np.where((r >= 0) & (r < layer.n_r), first + alpha * layer.n_r + r, -1)

        return find

    layers = [rings(index) for index in range(geometry.n_layers)]
    return lambda layer, x, y: _by_layer(layers, layer, x, y)


def _by_layer(layers: list[Any], layer: IntArray, x: FloatArray, y: FloatArray) -> IntArray:
    found = np.full(len(x), -1)
    for index, find in enumerate(layers):
        here = layer == index
        if here.any():
            found[here] = find(x[here], y[here])
    return found


class _Grid:
    """The cells of a layer on the grid that all of their edges make: each field is in one cell or none."""

    def __init__(self, geometry: CellGeometry, place: slice) -> None:
        self._edges, bounds = [], []
        for middle, size in (
            (geometry.eta_of_voxel[place], geometry.width_of_voxel[place]),
            (geometry.phi_of_voxel[place], geometry.height_of_voxel[place]),
        ):
            low, high = middle - size / 2, middle + size / 2
            edges = np.unique(np.concatenate([low, high]))
            edges = edges[np.concatenate([[True], np.diff(edges) > _NEAR])]
            self._edges.append(edges)
            bounds.append([_nearest(edges, side) for side in (low, high)])
        shape = [len(edges) + 1 for edges in self._edges]
        if np.prod(shape, dtype=float) > _MOST:
            text = f"geometry {geometry}: its cells are on no common grid, which finding them by place needs"
            raise InputError(f"{text}; name the channels of the hits")
        self._cells = np.full(shape, -1)  # field i is below edge i
        for cell, (x0, x1, y0, y1) in enumerate(zip(*bounds[0], *bounds[1], strict=True), place.start):
            self._cells[x0 + 1 : x1 + 1, y0 + 1 : y1 + 1] = cell

    def __call__(self, x: FloatArray, y: FloatArray) -> IntArray:
        i, j = (np.searchsorted(edges, one, side="right") for edges, one in zip(self._edges, (x, y), strict=True))
        return np.asarray(self._cells[i, j])


def _nearest(edges: FloatArray, values: FloatArray) -> IntArray:
    right = np.clip(np.searchsorted(edges, values), 1, len(edges) - 1)
    return np.where(values - edges[right - 1] < edges[right] - values, right - 1, right)
