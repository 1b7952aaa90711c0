"""Steps by which voxel energies become numbers that a network can learn, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.geometry import Geometry

NOISE_GAP = 1e-3
"""Share of the threshold that is kept between hits and the noise that fills zeros."""


@dataclass(frozen=True)
class ShowerContext:
    """What is known of a shower before its voxels.

    Attributes:
        layer_energy: (B, L) MeV.
        layer_hits: (B, L) number of voxels that are not 0.
        voxel_layer_energy: (B, V) MeV, the energy of the layer that each voxel is in.
        threshold: MeV; a voxel with less is 0.
    """

    layer_energy: Tensor
    layer_hits: Tensor
    voxel_layer_energy: Tensor
    threshold: float


class LayerSums(nn.Module):
    """Gather voxels by layer, sum them, and spread layer values over voxels."""

    layer_of_voxel: Tensor
    place_in_layer: Tensor
    table: Tensor
    valid: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.register_buffer("layer_of_voxel", torch.as_tensor(geometry.layer_of_voxel), persistent=False)
        voxels = [torch.arange(place.start, place.stop) for place in geometry.layer_slices]
        places = torch.cat([torch.arange(len(layer)) for layer in voxels])
        self.register_buffer("place_in_layer", places, persistent=False)
        table = nn.utils.rnn.pad_sequence(voxels, batch_first=True, padding_value=-1)
        self.register_buffer("valid", table >= 0, persistent=False)
        self.register_buffer("table", table.clamp_min(0), persistent=False)

    def by_layer(self, voxels: Tensor, *, empty: float = 0.0) -> Tensor:
        """Return (B, L, longest layer) of voxels (B, V), filled with ``empty``."""
        return torch.where(self.valid, voxels[:, self.table], empty)

    def from_layers(self, table: Tensor) -> Tensor:
        """Return voxels (B, V) of (B, L, longest layer)."""
        return table.flatten(1)[:, self.layer_of_voxel * table.shape[2] + self.place_in_layer]

    def sum(self, voxels: Tensor) -> Tensor:
        """Return the energy of each layer, (B, L), of voxels (B, V)."""
        return self.by_layer(voxels).sum(2)

    def spread(self, layer_values: Tensor) -> Tensor:
        """Return (B, V): the layer's value of (B, L) at each of its voxels."""
        return layer_values[:, self.layer_of_voxel]

    def context(self, layer_energy: Tensor, layer_hits: Tensor, threshold: float) -> ShowerContext:
        """Return the context of showers with these energies (B, L) in MeV and hits (B, L) of their layers."""
        return ShowerContext(layer_energy, layer_hits, self.spread(layer_energy), threshold)

    def context_of(self, voxels: Tensor, threshold: float) -> ShowerContext:
        """Return the context of whole showers, (B, V) MeV."""
        return self.context(self.sum(voxels), self.sum((voxels > 0).to(voxels.dtype)), threshold)


class VoxelStep(nn.Module, ABC):
    """One invertible step from voxel energies towards network space."""

    name: ClassVar[str]

    @abstractmethod
    def encode(self, x: Tensor, context: ShowerContext, draws: Draws) -> Tensor:
        """Map (B, V) forward; random numbers, where needed, come from ``draws``."""

    @abstractmethod
    def decode(self, x: Tensor, context: ShowerContext) -> Tensor:
        """Map (B, V) back."""

    def fit(self) -> StepFit | None:
        """Return what fits the step to showers, None if nothing is fitted."""
        return None

    def config(self) -> dict[str, Any]:
        """Return the arguments that make this step again."""
        return {"name": self.name}


class StepFit(ABC):
    """Fits a step, one batch of showers after the other."""

    @abstractmethod
    def update(self, voxels: Tensor, context: ShowerContext, draws: Draws) -> None:
        """Add (B, V) as the steps before it code them."""

    @abstractmethod
    def finish(self) -> None:
        """Set what was fitted."""


class EnergyFraction(VoxelStep):
    """Divide each voxel by the energy of its layer; an empty layer stays 0."""

    name: ClassVar[str] = "energy_fraction"

    def encode(self, x: Tensor, context: ShowerContext, draws: Draws) -> Tensor:
        """MeV to fraction of the layer energy."""
        return x / context.voxel_layer_energy.clamp_min(context.threshold)

    def decode(self, x: Tensor, context: ShowerContext) -> Tensor:
        """Fraction of the layer energy to MeV; hits at the threshold do not fall under it by rounding."""
        energy = x * context.voxel_layer_energy
        at_edge = (energy < context.threshold) & (energy > (1 - NOISE_GAP / 2) * context.threshold)
        return torch.where(at_edge, torch.full_like(energy, context.threshold), energy)


def _fill_below_threshold(x: Tensor, context: ShowerContext, draws: Draws) -> Tensor:
    """Replace zeros of fractions by uniform noise below the threshold, which the cut removes again."""
    edge = context.threshold / context.voxel_layer_energy.clamp_min(context.threshold)
    noise = draws.uniform(*x.shape, dtype=x.dtype)
    return torch.where(x > 0, x, noise * (1 - NOISE_GAP) * edge)


class Logit(VoxelStep):
    """logit(delta + (1 - 2 delta) x) of fractions, zeros filled with noise below the threshold.

    Source: Krause and Shih, CaloFlow, arXiv:2106.05285, eq. 5 (the map), section III.
    """

    name: ClassVar[str] = "logit"

    def __init__(self, delta: float = 1e-6) -> None:
        super().__init__()
        self.delta = delta

    def encode(self, x: Tensor, context: ShowerContext, draws: Draws) -> Tensor:
        """Fraction in [0, 1] to the real line."""
        x = _fill_below_threshold(x, context, draws).double()
        return torch.logit(self.delta + (1 - 2 * self.delta) * x).float()

    def decode(self, x: Tensor, context: ShowerContext) -> Tensor:
        """Real line to fraction."""
        return ((torch.sigmoid(x) - self.delta) / (1 - 2 * self.delta)).clamp(0, 1)

    def config(self) -> dict[str, Any]:
        """Return name and delta."""
        return {"name": self.name, "delta": self.delta}


class Power(VoxelStep):
    """x ** exponent of fractions, zeros filled with noise below the threshold."""

    name: ClassVar[str] = "power"

    def __init__(self, exponent: float = 0.25) -> None:
        super().__init__()
        self.exponent = exponent

    def encode(self, x: Tensor, context: ShowerContext, draws: Draws) -> Tensor:
        """Fraction to its root."""
        return _fill_below_threshold(x, context, draws) ** self.exponent

    def decode(self, x: Tensor, context: ShowerContext) -> Tensor:
        """Root to fraction."""
        return x.clamp_min(0) ** (1 / self.exponent)

    def config(self) -> dict[str, Any]:
        """Return name and exponent."""
        return {"name": self.name, "exponent": self.exponent}


class Standardise(VoxelStep):
    """Subtract the mean and divide by the standard deviation of each voxel on the training showers."""

    name: ClassVar[str] = "standardise"
    mean: Tensor
    std: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))

    def encode(self, x: Tensor, context: ShowerContext | None, draws: Draws | None) -> Tensor:
        """Shift and scale."""
        return (x - self.mean) / self.std

    def decode(self, x: Tensor, context: ShowerContext | None) -> Tensor:
        """Scale and shift back."""
        return x * self.std + self.mean

    def fit(self) -> StepFit:
        """Return what sets mean and standard deviation."""
        return _Moments(self)


class _Moments(StepFit):
    def __init__(self, step: Standardise) -> None:
        self._step, self._moments = step, RunningMoments(len(step.mean))

    def update(self, voxels: Tensor, context: ShowerContext, draws: Draws) -> None:
        self._moments.update(voxels)

    def finish(self) -> None:
        self._moments.fill(self._step)


class RunningMoments:
    """Mean and standard deviation per column, accumulated over batches in float64."""

    def __init__(self, n_features: int) -> None:
        """Start empty."""
        self._n = torch.zeros(n_features, dtype=torch.float64)
        self._sum = torch.zeros(n_features, dtype=torch.float64)
        self._square = torch.zeros(n_features, dtype=torch.float64)

    def update(self, x: Tensor, valid: Tensor | None = None) -> None:
        """Add rows (B, F); entries where ``valid`` is False do not count."""
        weight = torch.ones_like(x, dtype=torch.float64) if valid is None else valid.double()
        x = x.double() * weight
        self._n += weight.sum(0)
        self._sum += x.sum(0)
        self._square += (x * x).sum(0)

    def fill(self, step: Standardise) -> None:
        """Set a step's mean and standard deviation; a column that never varied gets width 1."""
        n = self._n.clamp_min(1)
        mean = self._sum / n
        std = (self._square / n - mean**2).clamp_min(0).sqrt()
        step.mean.copy_(mean)
        step.std.copy_(torch.where(std > 1e-4, std, torch.ones_like(std)))
