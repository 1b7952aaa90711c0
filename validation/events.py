"""Single showers, seen from the side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Geometry
from caloforge.showers import Showers
from caloforge.validation.summary import common_r_edges

FloatArray = NDArray[np.float64]

QUANTILES = (0.15, 0.5, 0.85)
"""Of the reference's incident energies: what showers are shown."""


@dataclass(frozen=True)
class Event:
    """A shower from the side.

    Attributes:
        incident_energy: MeV.
        density: (L, 2 R) MeV/mm^2 per layer and signed r: from the outermost ring below the axis
            (alpha < 0) to the outermost above it. A ring of one alpha bin is halved.
    """

    incident_energy: float
    density: FloatArray


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
        voxels = showers.select([row]).read()[0].astype(np.float64)
        voxels[voxels < threshold] = 0
        result.append(Event(float(found[row]), side_view(voxels, showers.geometry)))
    return result


def side_view(voxels: FloatArray, geometry: Geometry) -> FloatArray:
    """Return the energy per area of one shower, (L, 2 R); see :class:`Event`."""
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
