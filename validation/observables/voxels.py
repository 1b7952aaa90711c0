"""Observables of single voxels: how many there are and how much the largest has."""

from __future__ import annotations

from caloforge.validation.observables.observable import Observable
from caloforge.validation.observables.per_shower import (
    empty_layers,
    every_layer,
    hottest_voxel_share,
    number_of_voxels,
    sparsity,
)

HOTTEST_VOXEL_SHARE = Observable("Share of the hottest voxel", "", "Voxels", hottest_voxel_share)
EMPTY_LAYERS = Observable("Fraction of empty layers", "", "Voxels", empty_layers)
SPARSITY = Observable("Sparsity", "", "Voxels", sparsity, every_layer)
NUMBER_OF_VOXELS = Observable("Voxels above threshold", "", "Voxels", number_of_voxels)
