"""What the quick protocol's classifier sees of the voxels: few numbers that keep what gives generators away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CellGeometry, CylindricalGeometry, Geometry
from caloforge.showers import VoxelArray

HOTTEST = 4
"""How many of a layer's hottest voxels are kept."""

SHELLS = 8
"""Into how many groups of equal size the cells of a layer are put by their distance from the axis, at most."""


def voxel_features(chunks: Iterable[VoxelArray], geometry: Geometry) -> NDArray[np.float32]:
    """Return numbers made of the voxels of N showers that come in pieces, (N, d).

    Of each layer: energy and number of hit voxels in each ring, the hottest voxels, and the overlap
    of the energies with those one alpha bin further and, where the mesh goes on unchanged, with the
    layer before: the scalar product of the square roots over the energies, which is 1 for equal
    distributions. Rings say where the energy is, hits and hottest voxels how it is spread over
    voxels, overlaps whether neighbours know of each other. Of cells, those of like distance from the axis
    are as a ring, four quadrants are added, and the overlap is of cells that lie side by side.

    Args:
        chunks: pieces of shape (n, V), MeV.
        geometry: their mesh.
    """
    return np.concatenate([np.concatenate(list(_columns(chunk, geometry)), axis=1) for chunk in chunks])


def _columns(voxels: VoxelArray, geometry: Geometry) -> Iterator[NDArray[np.float32]]:
    if not isinstance(geometry, CylindricalGeometry):
        yield from _columns_of_cells(voxels, geometry)
        return
    before: NDArray[np.float32] | None = None
    for layer, place in zip(geometry.active_layers, geometry.layer_slices, strict=True):
        cells = voxels[:, place].reshape(-1, layer.n_alpha, layer.n_r)
        flat = cells.reshape(len(cells), -1)
        n_hottest = min(HOTTEST, flat.shape[1])
        yield cells.sum(axis=1)
        yield (cells > 0).sum(axis=1, dtype=np.float32)
        yield np.sort(np.partition(flat, -n_hottest, axis=1)[:, -n_hottest:], axis=1)
        energy = flat.sum(axis=1, keepdims=True)[:, :, None]
        # Square roots of shares, so that the scalar product with itself is 1; 0 for an empty layer.
        root = np.sqrt(np.divide(cells, energy, out=np.zeros_like(cells), where=energy > 0))
        if layer.n_alpha > 1:
            yield _overlap(root, np.roll(root, 1, axis=1))
        if before is not None and before.shape == root.shape:
            yield _overlap(root, before)
        before = root


def _overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    overlap: NDArray[np.float32] = np.einsum("nij,nij->n", a, b)[:, None]
    return overlap


def _columns_of_cells(voxels: VoxelArray, geometry: Geometry) -> Iterator[NDArray[np.float32]]:
    first, second = geometry.neighbours.T
    layer_of_pair = geometry.layer_of_voxel[first]
    before = np.empty(0, np.float32)
    for i, place in enumerate(geometry.layer_slices):
        cells = voxels[:, place]
        groups = _groups(geometry, place)
        yield cells @ groups
        yield (cells > 0).astype(np.float32) @ groups
        n_hottest = min(HOTTEST, cells.shape[1])
        yield np.sort(np.partition(cells, -n_hottest, axis=1)[:, -n_hottest:], axis=1)
        energy = cells.sum(axis=1, keepdims=True)
        root = np.sqrt(np.divide(cells, energy, out=np.zeros_like(cells), where=energy > 0))[:, None]
        beside = layer_of_pair == i
        if beside.any():
            yield _overlap(root[..., first[beside] - place.start], root[..., second[beside] - place.start])
        if i > 0 and isinstance(geometry, CellGeometry) and geometry.continues(i):
            yield _overlap(root, before)
        before = root


def _groups(geometry: Geometry, place: slice) -> NDArray[np.float32]:
    """Return which cells of a layer are in each shell and in each quadrant, (cells, groups); on an edge by halves."""
    x, y, r = geometry.eta_of_voxel[place], geometry.phi_of_voxel[place], geometry.r_of_voxel[place]
    n = min(SHELLS, len(r))
    shells = (np.arange(len(r)) * n // len(r))[np.argsort(np.argsort(r, kind="stable"))]
    right, above = (1 + np.sign(x)) / 2, (1 + np.sign(y)) / 2
    quadrants = [a * b for a in (right, 1 - right) for b in (above, 1 - above)] if len(r) > 1 else []
    return np.stack([*(shells == k for k in range(n)), *quadrants], axis=1).astype(np.float32)
