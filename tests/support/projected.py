"""Real showers on cells: those of a mesh of rings, their layers summed up and spread over the cells they lie on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CellGeometry, CylindricalGeometry
from caloforge.showers import open_showers, write_showers

POINTS = 6
"""Points of a voxel in r and in alpha, of equal area each, at which its energy is put."""


def projection(rings: CylindricalGeometry, cells: CellGeometry, *, stretch: float = 1.0) -> NDArray[np.float32]:
    """Return the part of each voxel's energy that falls on each cell, (V_rings, V_cells).

    Layers of rings are shared out evenly among the layers of cells, in their order.

    Args:
        rings: of the showers.
        cells: where their energy goes; what misses them is lost.
        stretch: how much wider the showers become.
    """
    parts = (np.arange(POINTS) + 0.5) / POINTS
    matrix = np.zeros((rings.n_voxels, cells.n_voxels), np.float32)
    voxel = 0
    for i, layer in enumerate(rings.active_layers):
        place = cells.layer_slices[i * cells.n_layers // rings.n_layers]
        x, y = cells.eta_of_voxel[place], cells.phi_of_voxel[place]
        half = cells.width_of_voxel[place] / 2, cells.height_of_voxel[place] / 2
        for a in range(layer.n_alpha):
            alpha = -np.pi + 2 * np.pi * (a + parts) / layer.n_alpha
            for low, high in zip(layer.r_edges, layer.r_edges[1:], strict=False):
                r = stretch * np.sqrt(low**2 + parts * (high**2 - low**2))[:, None]
                at = np.stack([r * np.cos(alpha), r * np.sin(alpha)], -1).reshape(-1, 2, 1)
                inside = (at[:, 0] >= x - half[0]) & (at[:, 0] < x + half[0])
                inside &= (at[:, 1] >= y - half[1]) & (at[:, 1] < y + half[1])
                matrix[voxel, place] += inside.mean(axis=0)
                voxel += 1
    return matrix


def project(source: Path, output: Path, cells: CellGeometry, *, threshold: float, stretch: float = 1.0) -> Path:
    """Write the showers of a file of rings on cells, without energies below a threshold in MeV."""
    showers = open_showers(source)
    assert isinstance(showers.geometry, CylindricalGeometry)
    matrix = projection(showers.geometry, cells, stretch=stretch)
    with write_showers(output, cells, attributes={"energy_threshold": threshold}, provenance={}) as writer:
        for conditions, voxels in showers.pairs():
            energies = voxels @ matrix
            writer.append(conditions, np.where(energies < threshold, 0, energies))
    return output
