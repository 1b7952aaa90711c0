"""Numbers of each shower, or of each shower and layer, that samples are compared by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Geometry
from caloforge.validation.observables.summary import EPSILON, Summary

FloatArray = NDArray[np.float64]


def response(summary: Summary) -> FloatArray:
    """Return the total energy over the incident energy, (N,)."""
    ratio: FloatArray = summary.total_energy / summary.incident_energy
    return ratio


def layer_energy(summary: Summary) -> FloatArray:
    """Return the energy of each layer, (N, L) MeV."""
    return summary.layer_energy


def layer_share(summary: Summary) -> FloatArray:
    """Return the share of each layer in the energy of all voxels, (N, L); (N, 0) for a single layer."""
    share = summary.layer_energy / (summary.total_energy + EPSILON)[:, None]
    return share if summary.geometry.n_layers > 1 else share[:, :0]


def centre(summary: Summary, axis: str) -> FloatArray:
    """Return the centre of energy of each layer along eta, phi or r, (N, layers) mm."""
    return _where_defined(summary, summary.centre[axis], axis)


def width(summary: Summary, axis: str) -> FloatArray:
    """Return the energy-weighted standard deviation of each layer along an axis, (N, layers) mm."""
    return _where_defined(summary, summary.width[axis], axis)


def sparsity(summary: Summary) -> FloatArray:
    """Return the fraction of voxels without energy in each layer, (N, L)."""
    voxels = np.asarray(summary.geometry.layer_sizes)
    empty: FloatArray = 1 - summary.layer_hits / voxels
    return empty


def number_of_voxels(summary: Summary) -> FloatArray:
    """Return the number of voxels above the threshold, (N,)."""
    total: FloatArray = summary.layer_hits.sum(axis=1)
    return total


def longitudinal_first_moment(summary: Summary) -> FloatArray:
    """Return the energy-weighted mean of the layer index, (N,); (N, 0) for a single layer."""
    index = np.arange(summary.geometry.n_layers)
    return _along(summary, summary.layer_energy @ index / (summary.total_energy + EPSILON))


def longitudinal_second_moment(summary: Summary) -> FloatArray:
    """Return the energy-weighted variance of the layer index, (N,); (N, 0) for a single layer."""
    index = np.arange(summary.geometry.n_layers)
    mean, square = (summary.layer_energy @ index**power / (summary.total_energy + EPSILON) for power in (1, 2))
    return _along(summary, np.maximum(square - mean**2, 0))


def lateral_first_moment(summary: Summary) -> FloatArray:
    """Return the energy-weighted mean of r over all voxels, (N,) mm."""
    return over_layers(summary, summary.centre["r"], every_layer(summary.geometry))


def lateral_second_moment(summary: Summary) -> FloatArray:
    """Return the energy-weighted variance of r over all voxels, (N,) mm^2."""
    square = over_layers(summary, summary.width["r"] ** 2 + summary.centre["r"] ** 2, every_layer(summary.geometry))
    return np.maximum(square - lateral_first_moment(summary) ** 2, 0)


def containment_radius(summary: Summary, fraction: float) -> FloatArray:
    """Return the radius that holds a fraction of each shower's energy, (N,) mm; 0 for an empty shower.

    Within a ring the energy is taken as even in area. (N, 0) for cells.
    """
    if summary.lateral is None:
        return np.empty((len(summary), 0))
    area = summary.lateral.edges**2
    inside = np.cumsum(summary.ring_energy, axis=1)
    wanted = fraction * inside[:, -1]
    ring = (inside < wanted[:, None]).sum(axis=1)
    rows = np.arange(len(summary))
    before = np.where(ring > 0, inside[rows, ring - 1], 0.0)
    part = (wanted - before) / (summary.ring_energy[rows, ring] + EPSILON)
    radius = np.sqrt(area[ring] + part * (area[ring + 1] - area[ring]))
    return np.where(inside[:, -1] > 0, radius, 0.0)


def hottest_voxel_share(summary: Summary) -> FloatArray:
    """Return the energy of the hottest voxel over that of all voxels, (N,)."""
    share: FloatArray = summary.hottest_voxel / (summary.total_energy + EPSILON)
    return share


def empty_layers(summary: Summary) -> FloatArray:
    """Return the fraction of layers without energy, (N,); (N, 0) for a single layer."""
    return _along(summary, (summary.layer_hits == 0).mean(axis=1))


def centre_residual(summary: Summary, direction: str) -> FloatArray:
    """Return the centre of energy minus where the angles make it expected, (N,) mm; (N, 0) without angles.

    Args:
        summary: the sample.
        direction: ``eta``, ``phi``, or ``outward`` for the part along the way from the mesh's axis
            to the expected point, which averages to 0 in eta and phi if centres lie too far in or out.
    """
    expected = summary.expected_centre
    if expected is None:
        return np.empty((len(summary), 0))
    residual = shower_centre(summary) - expected
    if direction == "outward":
        along: FloatArray = (residual * expected).sum(axis=1) / (np.hypot(*expected.T) + EPSILON)
        return along
    return residual[:, 0 if direction == "eta" else 1]


def shower_centre(summary: Summary) -> FloatArray:
    """Return the centre of energy in eta and phi of whole showers, (N, 2) mm, over layers that have both."""
    layers = transverse_layers(summary.geometry)
    return np.stack([over_layers(summary, centre(summary, axis), layers) for axis in ("eta", "phi")], axis=1)


def _along(summary: Summary, values: FloatArray) -> FloatArray:
    """Return values that need several layers to mean anything, (N,) or (N, 0)."""
    return values if summary.geometry.n_layers > 1 else values[:, None][:, :0]


def _where_defined(summary: Summary, values: FloatArray, axis: str) -> FloatArray:
    """Keep the layers that have the axis: eta and phi need more than one alpha bin or cell."""
    return values if axis == "r" else values[:, summary.geometry.transverse_layers]


def every_layer(geometry: Geometry) -> Sequence[int]:
    """Return all layers."""
    return range(geometry.n_layers)


def several_layers(geometry: Geometry) -> Sequence[int]:
    """Return all layers of a geometry that has more than one."""
    return range(geometry.n_layers if geometry.n_layers > 1 else 0)


def transverse_layers(geometry: Geometry) -> Sequence[int]:
    """Return the layers that have the axes eta and phi: those of more than one alpha bin."""
    return geometry.transverse_layers


def over_layers(summary: Summary, values: FloatArray, layers: Sequence[int]) -> FloatArray:
    """Average (N, layers) values of some layers, weighted by their energy, (N,)."""
    weights = summary.layer_energy
    if len(layers) < weights.shape[1]:  # all of them need no copy
        weights = weights[:, list(layers)]
    mean: FloatArray = (values * weights).sum(axis=1) / (weights.sum(axis=1) + EPSILON)
    return mean
