"""Invertible maps between energies in MeV and the space in which networks work.

A shower is learnt in three steps: the energies of its layers, how many voxels of each are hit, and then the
voxels, so there are three codings (:mod:`caloforge.preprocessing.layer_transforms` and the chains of steps below).
Each maps forward and back; what it fitted on the training showers are its buffers, saved as data. The inverse is
plain tensor arithmetic without branches on values, so that it can be part of an ONNX graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.errors import unknown_name
from caloforge.geometry import Geometry
from caloforge.preprocessing.layer_transforms import LayerEnergyTransform, LayerHitTransform
from caloforge.preprocessing.quantiles import HitQuantile
from caloforge.preprocessing.voxel_steps import (
    EnergyFraction,
    LayerSums,
    Logit,
    Power,
    ShowerContext,
    Standardise,
    StepFit,
    VoxelStep,
)

VOXEL_SCALINGS: dict[str, Callable[[Geometry], list[VoxelStep]]] = {
    "quantile": lambda mesh: [HitQuantile(mesh)],
    "logit": lambda mesh: [EnergyFraction(), Logit(), Standardise(mesh.n_voxels)],
    "power": lambda mesh: [EnergyFraction(), Power(), Standardise(mesh.n_voxels)],
}
"""The voxel codings that preprocessing offers; its settings know the names without importing torch. The last step
of each is fitted."""


class VoxelTransform(nn.Module):
    """The chain for the voxels (B, V) in MeV, given energies and hits of their layers.

    Attributes:
        steps: the chain, applied in order and inverted in reverse order.
    """

    def __init__(self, geometry: Geometry, scaling: str) -> None:
        super().__init__()
        if scaling not in VOXEL_SCALINGS:
            raise unknown_name("voxel scaling", scaling, VOXEL_SCALINGS)
        self.scaling = scaling
        self._chain = VOXEL_SCALINGS[scaling](geometry)
        self.steps = nn.ModuleList(self._chain)

    def encode(self, voxels: Tensor, context: ShowerContext, draws: Draws) -> Tensor:
        """Map voxel energies to network space."""
        for step in self._chain:
            voxels = step.encode(voxels, context, draws)
        return voxels

    def decode(self, x: Tensor, context: ShowerContext) -> Tensor:
        """Map network space to voxel energies in MeV, not yet normalised to the layer energies."""
        for step in reversed(self._chain):
            x = step.decode(x, context)
        return x

    def fit(self) -> VoxelFit:
        """Return what fits the last step, batch by batch."""
        return VoxelFit(self._chain)

    def config(self) -> list[dict[str, Any]]:
        """Return the chain as a list of named steps, for people to read."""
        return [step.config() for step in self._chain]


class VoxelFit:
    """Fits the last step of a chain, one batch after the other."""

    def __init__(self, chain: Sequence[VoxelStep]) -> None:
        """Take a chain whose last step is fitted."""
        *self._before, last = chain
        found = last.fit()
        assert found is not None
        self._fit: StepFit = found

    def update(self, voxels: Tensor, context: ShowerContext, draws: Draws) -> None:
        """Add voxels (B, V) in MeV."""
        for step in self._before:
            voxels = step.encode(voxels, context, draws)
        self._fit.update(voxels, context, draws)

    def finish(self) -> None:
        """Set what was fitted."""
        self._fit.finish()


class Transforms(NamedTuple):
    """The fitted codings of a sample.

    Attributes:
        energies: of layer energies given the incident energy.
        hits: of the hits of layers given their energies.
        voxels: of voxels given both.
    """

    energies: LayerEnergyTransform
    hits: LayerHitTransform
    voxels: VoxelTransform

    @classmethod
    def of(cls, geometry: Geometry, voxel_scaling: str) -> Transforms:
        """Return them before anything is fitted."""
        return cls(
            LayerEnergyTransform(geometry.n_layers),
            LayerHitTransform(geometry),
            VoxelTransform(geometry, voxel_scaling),
        )

    def state(self) -> dict[str, Tensor]:
        """Return all that was fitted, by name."""
        return {
            f"{place}.{name}": value
            for place, part in self._asdict().items()
            for name, value in part.state_dict().items()
        }


def restore_layers(
    voxels: Tensor, layer_energy: Tensor, layer_hits: Tensor, sums: LayerSums, threshold: float
) -> Tensor:
    """Make voxels agree with the energies and hits of their layers.

    The n hottest voxels of a layer are its hits. Each gets the threshold t, and the rest of the layer's energy E is shared
    in proportion to what they had above it: v = t + (E - n t) f / sum f with f = v - t. No voxel can fall under the
    threshold, and none that is well above it is moved by more than its layer is.

    Args:
        voxels: (B, V) MeV, not negative.
        layer_energy: (B, L) MeV, at least n thresholds.
        layer_hits: (B, L) n, at least 1 where there is energy.
        sums: sums over layers of the geometry.
        threshold: t, MeV.

    Returns:
        (B, V) MeV.
    """
    table = sums.by_layer(voxels, empty=-1.0)
    order = torch.sort(table.detach(), dim=2, descending=True).indices
    chosen = torch.arange(table.shape[2], device=voxels.device) < layer_hits[:, :, None]
    hit = torch.zeros_like(table).scatter(2, order, chosen.to(table.dtype))
    # The voxels that a network would rather have left empty still have to share what there is.
    free = hit * (table - threshold).clamp_min(1e-6 * threshold)
    rest = (layer_energy - layer_hits * threshold).clamp_min(0)
    share = free / free.sum(2, keepdim=True).clamp_min(1e-20)
    return sums.from_layers(hit * (threshold + rest[:, :, None] * share))
