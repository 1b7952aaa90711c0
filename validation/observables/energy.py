"""Observables of the energy: of all voxels and of the layers."""

from __future__ import annotations

from caloforge.validation.observables.observable import Observable
from caloforge.validation.observables.per_shower import (
    every_layer,
    layer_energy,
    layer_share,
    response,
    several_layers,
)

RESPONSE = Observable("Total response", "", "Energy", response, label=r"$E_\mathrm{tot}\,/\,E_\mathrm{inc}$")
LAYER_ENERGY = Observable(
    "Layer energy",
    "MeV",
    "Energy",
    layer_energy,
    every_layer,
    log=True,
    label="Energy of the hottest layer",
    shown=lambda s: s.layer_energy.max(axis=1),
)
LAYER_SHARE = Observable(
    "Share of a layer",
    "",
    "Energy",
    layer_share,
    several_layers,
    label="Share of the hottest layer",
    shown=lambda s: layer_share(s).max(axis=1),
)
