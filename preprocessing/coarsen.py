"""Merge voxels into a coarser mesh: energies add up, nothing is lost or interpolated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.geometry import CylindricalGeometry, Layer


@dataclass(frozen=True)
class Coarsening:
    """A coarser geometry and where each fine voxel goes.

    Attributes:
        geometry: the coarser mesh.
        target: (V_fine,) coarse voxel of each fine voxel.
    """

    geometry: CylindricalGeometry
    target: NDArray[np.int64]

    def apply(self, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum (N, V_fine) energies into (N, V_coarse)."""
        order = np.argsort(self.target, kind="stable")
        starts = np.searchsorted(self.target[order], np.arange(self.geometry.n_voxels))
        return np.add.reduceat(voxels[:, order], starts, axis=1)


def coarsen(geometry: CylindricalGeometry, *, layers: int, alpha: int, r: Sequence[int], name: str) -> Coarsening:
    """Merge neighbouring voxels of a regular geometry.

    Args:
        geometry: all layers alike.
        layers: number of layers that become one; divides the number of layers.
        alpha: number of alpha bins that become one; divides the number of alpha bins.
        r: how many r bins go into each new ring, from the inside; sums to the number of r bins.
        name: name of the new geometry.

    Raises:
        InputError: the numbers do not fit the geometry.
    """
    first = geometry.active_layers[0]
    if not geometry.is_regular or geometry.n_layers % layers or first.n_alpha % alpha or sum(r) != first.n_r:
        msg = (
            f"cannot merge {layers} layers, {alpha} alpha bins and r bins {list(r)} of {geometry.name!r}: "
            f"it has {geometry.n_layers} layers, {first.n_alpha} alpha bins and {first.n_r} r bins"
        )
        raise InputError(msg)
    rings = np.concatenate([[0], np.cumsum(r)])
    edges = tuple(first.r_edges[i] for i in rings)
    n_layers, n_alpha, n_r = geometry.n_layers // layers, first.n_alpha // alpha, len(r)
    coarse = CylindricalGeometry(
        name=name,
        layers=tuple(Layer(i, edges, n_alpha) for i in range(n_layers)),
        particle=geometry.particle,
        pid=geometry.pid,
    )
    ring_of_r = np.repeat(np.arange(n_r), r)
    at_layer, at_alpha, at_r = np.indices((geometry.n_layers, first.n_alpha, first.n_r))
    target = (at_layer // layers * n_alpha + at_alpha // alpha) * n_r + ring_of_r[at_r]
    return Coarsening(coarse, target.ravel())
