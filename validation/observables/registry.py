"""The observables that generated showers are judged by: one line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Geometry
from caloforge.validation.observables.per_shower import (
    alpha_layers,
    centre,
    centre_residual,
    containment_radius,
    empty_layers,
    every_layer,
    hottest_voxel_share,
    lateral_first_moment,
    lateral_second_moment,
    layer_energy,
    layer_share,
    longitudinal_first_moment,
    longitudinal_second_moment,
    number_of_voxels,
    over_layers,
    response,
    several_layers,
    sparsity,
    width,
)
from caloforge.validation.observables.summary import Summary

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Observable:
    """A number per shower, or per shower and layer.

    Attributes:
        title: what it is called in tables, plain text.
        unit: its unit, empty for a pure number.
        group: heading of the report that its plot stands under.
        values: takes a summary to (N,) or (N, columns) values.
        layers: takes a geometry to the layers that the columns are of; without it they are of none.
        log: whether it spans decades, so that bins are logarithmic.
        label: what the plot's axis says; the title if empty. Mathtext allowed.
        shown: takes a summary to the (N,) values of the plot; without it the mean over columns, of
            layers weighted by their energy.
    """

    title: str
    unit: str
    group: str
    values: Callable[[Summary], FloatArray]
    layers: Callable[[Geometry], Sequence[int]] | None = None
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
        if values.ndim == 1:
            return values
        return over_layers(summary, values, self.layers(summary.geometry)) if self.layers else values.mean(axis=1)

    def places(self, geometry: Geometry, n_columns: int) -> tuple[str, tuple[str, ...]]:
        """Return what the columns are, in the plural, and the name of each; nothing for a single one without layers.

        Raises:
            ValueError: there are other columns than the layers that it says.
        """
        if self.layers is not None:
            layers = self.layers(geometry)
            if len(layers) != n_columns:
                raise ValueError(
                    f"observable {self.title!r}: {n_columns} columns, but it is said to be of {len(layers)} layers"
                )
            return "layers", tuple(f"layer {i}" for i in layers)
        return ("columns", tuple(f"column {i}" for i in range(n_columns))) if n_columns > 1 else ("", ())


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
        every_layer,
        log=True,
        label="Energy of the hottest layer",
        shown=_hottest_layer,
    ),
    "layer_share": Observable(
        "Share of a layer",
        "",
        "Energy",
        layer_share,
        several_layers,
        label="Share of the hottest layer",
        shown=lambda s: layer_share(s).max(axis=1),
    ),
    "centre_eta": Observable(
        "Centre of energy in eta",
        "mm",
        "Shape",
        lambda s: centre(s, "eta"),
        alpha_layers,
        label=r"Centre of energy in $\eta$",
    ),
    "centre_phi": Observable(
        "Centre of energy in phi",
        "mm",
        "Shape",
        lambda s: centre(s, "phi"),
        alpha_layers,
        label=r"Centre of energy in $\phi$",
    ),
    "centre_r": Observable(
        "Centre of energy in r", "mm", "Shape", lambda s: centre(s, "r"), every_layer, label="Centre of energy in $r$"
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
    "width_eta": Observable(
        "Width in eta", "mm", "Shape", lambda s: width(s, "eta"), alpha_layers, label=r"Width in $\eta$"
    ),
    "width_phi": Observable(
        "Width in phi", "mm", "Shape", lambda s: width(s, "phi"), alpha_layers, label=r"Width in $\phi$"
    ),
    "width_r": Observable("Width in r", "mm", "Shape", lambda s: width(s, "r"), every_layer, label="Width in $r$"),
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
    "sparsity": Observable("Sparsity", "", "Voxels", sparsity, every_layer),
    "number_of_voxels": Observable("Voxels above threshold", "", "Voxels", number_of_voxels),
}
"""All observables with a value per shower."""


@dataclass(frozen=True)
class Spectrum:
    """What the distribution metrics judge beside the observables: a distribution without a value per shower.

    Attributes:
        title: what it is called in tables.
        phrase: what a sentence calls it; ``{part}`` is the part that is worst.
        unit: of its coordinate.
        group: heading of the report.
    """

    title: str
    phrase: str
    unit: str
    group: str


SPECTRA: dict[str, Spectrum] = {
    "voxel_energy": Spectrum("Voxel energy", "voxel energy", "decades", "Profiles"),
    "voxel_energy_groups": Spectrum(
        "Voxel energy in groups of layers", "voxel energy in {part}", "decades", "Profiles"
    ),
    "response_by_energy": Spectrum(
        "Total response at each incident energy", "total response at each incident energy", "", "Energy"
    ),
}
"""By the name that the distribution metrics give their results."""
