"""Single showers: from the side, from the front, and as points in space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CellGeometry, CylindricalGeometry, Geometry
from caloforge.showers import Showers
from caloforge.validation.observables.summary import common_r_edges

FloatArray = NDArray[np.float64]

MOST_POINTS = 500
"""Of a shower in space: the hottest ones, which hold nearly all of its energy."""

QUANTILES = (0.15, 0.5, 0.85)
"""Of the reference's incident energies: what showers are shown."""


@dataclass(frozen=True)
class Event:
    """A shower.

    Attributes:
        incident_energy: MeV.
        density: (L, 2 R) MeV/mm^2 per layer and signed r: from the outermost ring below the axis
            (alpha < 0) to the outermost above it. A ring of one alpha bin is halved. Of cells, (L, B) MeV/mm
            per layer and bin of y; see :func:`y_edges`.
        front: (alphas, rings) MeV/mm^2 of the first layer, each alpha bin repeated so that it can
            be drawn round; see :func:`front_parts`. Of cells, (cells,).
        points: (K, 4) layer, x and y in mm and energy in MeV of the hottest voxels, the hottest
            first. A ring of one alpha bin is eight points.
    """

    incident_energy: float
    density: FloatArray
    front: FloatArray
    points: FloatArray


def typical_energies(reference: Showers) -> FloatArray:
    """Return the incident energies in MeV whose showers are shown."""
    energies: FloatArray = np.quantile(reference.conditions.incident_energy, QUANTILES, method="nearest")
    return energies


def events(showers: Showers, energies: Iterable[float], *, threshold: float) -> list[Event]:
    """Return for each energy the shower whose incident energy is nearest to it."""
    found = showers.conditions.incident_energy
    rows = [int(np.argmin(np.abs(np.log(found / energy)))) for energy in energies]
    result = []
    for row in rows:
        voxels = showers.select([row]).read(threshold=threshold)[0].astype(np.float64)
        mesh = showers.geometry
        views = side_view(voxels, mesh), front_view(voxels, mesh), points(voxels, mesh)
        result.append(Event(float(found[row]), *views))
    return result


def side_view(voxels: FloatArray, geometry: Geometry) -> FloatArray:
    """Return the energy per area of one shower, (L, 2 R), or of cells per length, (L, B); see :class:`Event`."""
    if isinstance(geometry, CellGeometry):
        return _side_of_cells(voxels, geometry)
    assert isinstance(geometry, CylindricalGeometry)
    r_edges = common_r_edges(geometry)
    n_rings = len(r_edges) - 1
    view = np.zeros((geometry.n_layers, 2 * n_rings))
    for i, (layer, place) in enumerate(zip(geometry.active_layers, geometry.layer_slices, strict=True)):
        edges = np.asarray(layer.r_edges)
        energy = voxels[place].reshape(layer.n_alpha, layer.n_r) / (np.pi * np.diff(edges**2) / 2)
        alpha = np.linspace(-np.pi, np.pi, layer.n_alpha + 1)
        above = np.clip(alpha[1:], 0, None) - np.clip(alpha[:-1], 0, None)
        above /= np.diff(alpha)  # share of each alpha bin that lies above the axis
        ring = np.searchsorted(edges, r_edges[:-1], side="right") - 1
        inside = (ring >= 0) & (r_edges[1:] <= edges[-1])
        for half, share in ((slice(n_rings, None), above), (slice(n_rings - 1, None, -1), 1 - above)):
            view[i, half][inside] = (share @ energy)[ring[inside]]
    return view


def y_edges(geometry: CellGeometry) -> FloatArray:
    """Return where cells of any layer begin or end in y, rising, mm; edges that differ by rounding are one."""
    y, half = geometry.phi_of_voxel, geometry.height_of_voxel / 2
    edges = np.unique(np.concatenate([y - half, y + half]))
    kept: FloatArray = edges[np.diff(edges, prepend=-np.inf) > 1e-3 * geometry.height_of_voxel.min()]
    return kept


def _side_of_cells(voxels: FloatArray, geometry: CellGeometry) -> FloatArray:
    """Return the energy per length in y of one shower, (L, B): of a cell it is even along its height."""
    edges = y_edges(geometry)
    y, half = geometry.phi_of_voxel[:, None], geometry.height_of_voxel[:, None] / 2
    covered = np.clip(edges[1:], y - half, y + half) - np.clip(edges[:-1], y - half, y + half)  # (V, B) mm
    density = voxels[:, None] * covered / (2 * half * np.diff(edges))
    view: FloatArray = np.add.reduceat(density, [place.start for place in geometry.layer_slices], axis=0)
    return view


def front_view(voxels: FloatArray, geometry: Geometry) -> FloatArray:
    """Return the energy per area of the first layer, (alphas, rings) or (cells,); see :class:`Event`."""
    first = geometry.layer_slices[0]
    if not isinstance(geometry, CylindricalGeometry):
        return voxels[first] / geometry.area_of_voxel[first]
    layer = geometry.active_layers[0]
    area = np.pi * np.diff(np.asarray(layer.r_edges) ** 2) / layer.n_alpha
    density = voxels[geometry.layer_slices[0]].reshape(layer.n_alpha, layer.n_r) / area
    return np.repeat(density, front_parts(layer.n_alpha), axis=0)


def front_parts(n_alpha: int) -> int:
    """Return in how many parts an alpha bin is cut so that a ring looks round."""
    return max(1, round(64 / n_alpha))


def points(voxels: FloatArray, geometry: Geometry) -> FloatArray:
    """Return the hottest voxels as points in space, (K, 4); see :class:`Event`."""
    if not isinstance(geometry, CylindricalGeometry):
        return _hottest(
            np.stack([geometry.layer_of_voxel, geometry.eta_of_voxel, geometry.phi_of_voxel, voxels], axis=1)
        )
    columns = []
    for i, (layer, place) in enumerate(zip(geometry.active_layers, geometry.layer_slices, strict=True)):
        parts = 1 if layer.n_alpha > 1 else 8
        alpha = (np.arange(layer.n_alpha * parts) + 0.5) / (layer.n_alpha * parts) * 2 * np.pi - np.pi
        edges = np.asarray(layer.r_edges)
        r = (edges[1:] + edges[:-1]) / 2
        energy = np.repeat(voxels[place].reshape(layer.n_alpha, layer.n_r) / parts, parts, axis=0)
        x, y = np.cos(alpha)[:, None] * r, np.sin(alpha)[:, None] * r
        columns.append(np.stack([np.full(energy.shape, float(i)), x, y, energy], axis=-1).reshape(-1, 4))
    return _hottest(np.concatenate(columns))


def _hottest(found: FloatArray) -> FloatArray:
    found = found[found[:, 3] > 0]
    hottest: FloatArray = found[np.argsort(-found[:, 3], kind="stable")[:MOST_POINTS]]
    return hottest
