"""The observables that generated showers are judged by: one function and one registry line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    voxels = np.asarray([layer.n_voxels for layer in summary.geometry.active_layers])
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
    return _over_layers(summary, summary.centre["r"])


def lateral_second_moment(summary: Summary) -> FloatArray:
    """Return the energy-weighted variance of r over all voxels, (N,) mm^2."""
    square = _over_layers(summary, summary.width["r"] ** 2 + summary.centre["r"] ** 2)
    return np.maximum(square - lateral_first_moment(summary) ** 2, 0)


def containment_radius(summary: Summary, fraction: float) -> FloatArray:
    """Return the radius that holds a fraction of each shower's energy, (N,) mm; 0 for an empty shower.

    Within a ring the energy is taken as even in area.
    """
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
    return np.stack([_over_layers(summary, centre(summary, axis)) for axis in ("eta", "phi")], axis=1)


def _along(summary: Summary, values: FloatArray) -> FloatArray:
    """Return values that need several layers to mean anything, (N,) or (N, 0)."""
    return values if summary.geometry.n_layers > 1 else values[:, None][:, :0]


def _where_defined(summary: Summary, values: FloatArray, axis: str) -> FloatArray:
    """Keep the layers that have the axis: eta and phi need more than one alpha bin."""
    return values if axis == "r" else values[:, summary.geometry.alpha_layers]


def _over_layers(summary: Summary, values: FloatArray) -> FloatArray:
    """Average (N, layers) values over layers, weighted by energy, (N,)."""
    layers = slice(None) if values.shape[1] == summary.geometry.n_layers else list(summary.geometry.alpha_layers)
    weights = summary.layer_energy[:, layers]
    mean: FloatArray = (values * weights).sum(axis=1) / (weights.sum(axis=1) + EPSILON)
    return mean


@dataclass(frozen=True)
class Observable:
    """A number per shower, or per shower and layer.

    Attributes:
        title: what it is called in tables, plain text.
        unit: its unit, empty for a pure number.
        group: heading of the report that its plot stands under.
        values: takes a summary to (N,) or (N, layers) values.
        log: whether it spans decades, so that bins are logarithmic.
        label: what the plot's axis says; the title if empty. Mathtext allowed.
        shown: takes a summary to the (N,) values of the plot; for an observable with layers the
            default is the mean over layers weighted by energy.
    """

    title: str
    unit: str
    group: str
    values: Callable[[Summary], FloatArray]
    log: bool = False
    label: str = ""
    shown: Callable[[Summary], FloatArray] | None = None

    def columns(self, summary: Summary) -> FloatArray:
        """Return the values as (N, columns); no columns if the geometry has no such thing."""
        values = self.values(summary)
        return values[:, None] if values.ndim == 1 else values

    def plotted(self, summary: Summary) -> FloatArray:
        """Return one number per shower, (N,)."""
        if self.shown is not None:
            return self.shown(summary)
        values = self.values(summary)
        return values if values.ndim == 1 else _over_layers(summary, values)


def _hottest_layer(summary: Summary) -> FloatArray:
    hottest: FloatArray = summary.layer_energy.max(axis=1)
    return hottest


OBSERVABLES: dict[str, Observable] = {
    "response": Observable("Total response", "", "Energy", response, label=r"$E_\mathrm{tot}\,/\,E_\mathrm{inc}$"),
    "layer_energy": Observable(
        "Layer energy",
        "MeV",
        "Energy",
        layer_energy,
        log=True,
        label="Energy of the hottest layer",
        shown=_hottest_layer,
    ),
    "layer_share": Observable(
        "Share of a layer",
        "",
        "Energy",
        layer_share,
        label="Share of the hottest layer",
        shown=lambda s: layer_share(s).max(axis=1),
    ),
    "centre_eta": Observable(
        "Centre of energy in eta", "mm", "Shape", lambda s: centre(s, "eta"), label=r"Centre of energy in $\eta$"
    ),
    "centre_phi": Observable(
        "Centre of energy in phi", "mm", "Shape", lambda s: centre(s, "phi"), label=r"Centre of energy in $\phi$"
    ),
    "centre_r": Observable(
        "Centre of energy in r", "mm", "Shape", lambda s: centre(s, "r"), label="Centre of energy in $r$"
    ),
    "centre_residual_eta": Observable(
        "Centre in eta minus expected impact",
        "mm",
        "Shape",
        lambda s: centre_residual(s, "eta"),
        label=r"Centre in $\eta$ minus expected impact",
    ),
    "centre_residual_phi": Observable(
        "Centre in phi minus expected impact",
        "mm",
        "Shape",
        lambda s: centre_residual(s, "phi"),
        label=r"Centre in $\phi$ minus expected impact",
    ),
    "centre_residual_outward": Observable(
        "Centre outward of expected impact",
        "mm",
        "Shape",
        lambda s: centre_residual(s, "outward"),
    ),
    "width_eta": Observable("Width in eta", "mm", "Shape", lambda s: width(s, "eta"), label=r"Width in $\eta$"),
    "width_phi": Observable("Width in phi", "mm", "Shape", lambda s: width(s, "phi"), label=r"Width in $\phi$"),
    "width_r": Observable("Width in r", "mm", "Shape", lambda s: width(s, "r"), label="Width in $r$"),
    "longitudinal_first_moment": Observable(
        "Longitudinal first moment", "layers", "Moments", longitudinal_first_moment
    ),
    "longitudinal_second_moment": Observable(
        "Longitudinal second moment", "layers²", "Moments", longitudinal_second_moment
    ),
    "lateral_first_moment": Observable("Lateral first moment", "mm", "Moments", lateral_first_moment),
    "lateral_second_moment": Observable("Lateral second moment", "mm²", "Moments", lateral_second_moment),
    "radius_90": Observable(
        "Radius of 90 % of the energy", "mm", "Shape", lambda s: containment_radius(s, 0.9), label="$R_{90}$"
    ),
    "radius_95": Observable(
        "Radius of 95 % of the energy", "mm", "Shape", lambda s: containment_radius(s, 0.95), label="$R_{95}$"
    ),
    "hottest_voxel_share": Observable("Share of the hottest voxel", "", "Voxels", hottest_voxel_share),
    "empty_layers": Observable("Fraction of empty layers", "", "Voxels", empty_layers),
    "sparsity": Observable("Sparsity", "", "Voxels", sparsity),
    "number_of_voxels": Observable("Voxels above threshold", "", "Voxels", number_of_voxels),
}
"""All observables with a value per shower; the voxel spectrum is judged beside them."""
