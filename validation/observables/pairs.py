"""What neighbouring voxels of a shower know of each other: sums over pairs, made piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CellGeometry, CylindricalGeometry, Geometry, Layer
from caloforge.showers import VoxelArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Numbers of N showers.

    Attributes:
        layer_overlap: (N, :func:`continued_layers`) scalar product of the square roots of the shares of the
            voxels with those of the layer before: 1 for equal distributions, 0 if either layer is empty.
        sector_kept: (N, :func:`sector_layers`) 1 where the sector of most energy is that of the layer
            before, else 0, as if either layer is empty.
        alpha_correlation: (N, :func:`lags`) sum over layers and sectors of the product of a sector's energy
            and that of the one so many further, over the sum of the layers' squared energies: 1 over the number of
            sectors for showers that are even in alpha.
        ring_hits: (N, rings) number of voxels above the threshold in each ring of all layers together; those of
            unlike layers are spread over the common rings in proportion to area.
        neighbour_correlation: (N, 1) for cells, (N, 0) for rings: sum over pairs of cells that lie side by side of
            the product of their energies, over the sum of the squared energies of all cells.

    What needs sectors or rings has no columns for cells.
    """

    layer_overlap: FloatArray
    sector_kept: FloatArray
    alpha_correlation: FloatArray
    ring_hits: FloatArray
    neighbour_correlation: FloatArray

    @classmethod
    def joined(cls, pieces: Sequence[Self]) -> Self:
        """Return the numbers of all showers of several pieces."""
        return cls(**{f.name: np.concatenate([getattr(piece, f.name) for piece in pieces]) for f in fields(cls)})


def continued_layers(geometry: Geometry) -> Sequence[int]:
    """Return the layers of several voxels that the layer before has too."""
    if isinstance(geometry, CellGeometry):
        return [i for i in range(1, geometry.n_layers) if geometry.layer_sizes[i] > 1 and geometry.continues(i)]
    if not isinstance(geometry, CylindricalGeometry):
        return []
    pairs = enumerate(pairwise(geometry.active_layers), 1)
    return [i for i, (a, b) in pairs if _mesh(a) == _mesh(b) and b.n_voxels > 1]


def sector_layers(geometry: Geometry) -> Sequence[int]:
    """Return the layers of several sectors that the layer before has too."""
    if not isinstance(geometry, CylindricalGeometry):
        return []
    return [i for i, (a, b) in enumerate(pairwise(geometry.active_layers), 1) if a.n_alpha == b.n_alpha > 1]


def lags(geometry: Geometry) -> Sequence[int]:
    """Return the distances in alpha bins that two sectors can have: those of the number that most layers have."""
    return range(1, _n_alpha(geometry) // 2 + 1)


def pairs(voxels: VoxelArray, geometry: Geometry, ring_shares: Sequence[FloatArray]) -> Pairs:
    """Return the numbers of some showers.

    Args:
        voxels: (n, V) MeV; what is below the threshold is 0.
        geometry: their mesh, of L layers.
        ring_shares: for each layer (n_r, rings), the part of each ring that lies in each common ring.
    """
    if not isinstance(geometry, CylindricalGeometry):
        return _pairs_of_cells(voxels, geometry)
    n_alpha = _n_alpha(geometry)
    continued, kept_layers = set(continued_layers(geometry)), set(sector_layers(geometry))
    overlap: list[FloatArray] = []
    kept: list[FloatArray] = []
    products = np.zeros((len(voxels), n_alpha // 2))
    squares = np.zeros(len(voxels))
    ring_hits = np.zeros((len(voxels), ring_shares[0].shape[1]))
    root = root_before = np.empty((len(voxels), 0), np.float32)
    hottest_before = np.full(len(voxels), -1)
    for i, (layer, place) in enumerate(zip(geometry.active_layers, geometry.layer_slices, strict=True)):
        cells = voxels[:, place].reshape(-1, layer.n_alpha, layer.n_r)
        ring_hits += np.count_nonzero(cells, axis=1) @ ring_shares[i]
        sectors = cells.sum(axis=2, dtype=np.float64)  # (n, n_alpha)
        energy = sectors.sum(axis=1)
        if i in continued or i + 1 in continued:
            root = np.sqrt(cells.reshape(len(cells), -1) / np.where(energy > 0, energy, 1)[:, None].astype(np.float32))
        if i in continued:
            overlap.append(np.einsum("ij,ij->i", root, root_before).astype(np.float64))
        hottest = np.where(energy > 0, sectors.argmax(axis=1), -1)
        if i in kept_layers:
            kept.append(((hottest == hottest_before) & (hottest >= 0)).astype(np.float64))
        if layer.n_alpha == n_alpha > 1:
            squares += energy**2
            for lag in lags(geometry):
                products[:, lag - 1] += np.einsum("ij,ij->i", sectors, np.roll(sectors, lag, axis=1))
        root_before, hottest_before = root, hottest
    return Pairs(
        layer_overlap=_columns(overlap, len(voxels)),
        sector_kept=_columns(kept, len(voxels)),
        alpha_correlation=products / np.where(squares > 0, squares, 1)[:, None],
        ring_hits=ring_hits,
        neighbour_correlation=np.empty((len(voxels), 0)),
    )


def _pairs_of_cells(voxels: VoxelArray, geometry: Geometry) -> Pairs:
    overlap: list[FloatArray] = []
    for i in continued_layers(geometry):
        before, here = (voxels[:, geometry.layer_slices[j]] for j in (i - 1, i))
        energies = [np.maximum(cells.sum(axis=1, dtype=np.float64), 1e-30) for cells in (before, here)]
        overlap.append(np.sqrt(before * here).sum(axis=1, dtype=np.float64) / np.sqrt(energies[0] * energies[1]))
    first, second = geometry.neighbours.T
    products = np.einsum("ij,ij->i", voxels[:, first], voxels[:, second], dtype=np.float64)
    squares = np.einsum("ij,ij->i", voxels, voxels, dtype=np.float64)
    none = np.empty((len(voxels), 0))
    return Pairs(
        layer_overlap=_columns(overlap, len(voxels)),
        sector_kept=none,
        alpha_correlation=none,
        ring_hits=none,
        neighbour_correlation=(products / np.where(squares > 0, squares, 1))[:, None][:, : len(geometry.neighbours)],
    )


def _columns(columns: Sequence[FloatArray], n: int) -> FloatArray:
    return np.stack(columns, axis=1) if columns else np.empty((n, 0))


def _mesh(layer: Layer) -> tuple[tuple[float, ...], int]:
    return layer.r_edges, layer.n_alpha


def _n_alpha(geometry: Geometry) -> int:
    """Return the number of sectors that most of the layers with several have; 1 if there are none."""
    if not isinstance(geometry, CylindricalGeometry):
        return 1
    numbers = [geometry.active_layers[i].n_alpha for i in geometry.transverse_layers]
    return max(sorted(set(numbers), reverse=True), key=numbers.count) if numbers else 1
