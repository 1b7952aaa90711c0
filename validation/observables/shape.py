"""Observables of the shape: where the energy lies and how wide."""

from __future__ import annotations

from caloforge.validation.observables.observable import Observable
from caloforge.validation.observables.per_shower import (
    centre,
    centre_residual,
    containment_radius,
    every_layer,
    transverse_layers,
    width,
)

CENTRE_ETA = Observable(
    "Centre of energy in eta",
    "mm",
    "Shape",
    lambda s: centre(s, "eta"),
    transverse_layers,
    label=r"Centre of energy in $\eta$",
)
CENTRE_PHI = Observable(
    "Centre of energy in phi",
    "mm",
    "Shape",
    lambda s: centre(s, "phi"),
    transverse_layers,
    label=r"Centre of energy in $\phi$",
)
CENTRE_R = Observable(
    "Centre of energy in r", "mm", "Shape", lambda s: centre(s, "r"), every_layer, label="Centre of energy in $r$"
)
CENTRE_RESIDUAL_ETA = Observable(
    "Centre in eta minus expected impact",
    "mm",
    "Shape",
    lambda s: centre_residual(s, "eta"),
    label=r"Centre in $\eta$ minus expected impact",
)
CENTRE_RESIDUAL_PHI = Observable(
    "Centre in phi minus expected impact",
    "mm",
    "Shape",
    lambda s: centre_residual(s, "phi"),
    label=r"Centre in $\phi$ minus expected impact",
)
CENTRE_RESIDUAL_OUTWARD = Observable(
    "Centre outward of expected impact",
    "mm",
    "Shape",
    lambda s: centre_residual(s, "outward"),
)
WIDTH_ETA = Observable(
    "Width in eta", "mm", "Shape", lambda s: width(s, "eta"), transverse_layers, label=r"Width in $\eta$"
)
WIDTH_PHI = Observable(
    "Width in phi", "mm", "Shape", lambda s: width(s, "phi"), transverse_layers, label=r"Width in $\phi$"
)
WIDTH_R = Observable("Width in r", "mm", "Shape", lambda s: width(s, "r"), every_layer, label="Width in $r$")
RADIUS_90 = Observable(
    "Radius of 90 % of the energy", "mm", "Shape", lambda s: containment_radius(s, 0.9), label="$R_{90}$"
)
RADIUS_95 = Observable(
    "Radius of 95 % of the energy", "mm", "Shape", lambda s: containment_radius(s, 0.95), label="$R_{95}$"
)
