"""Invertible maps between energies in MeV and the space in which networks work.

A shower is learnt in two stages, layer energies first and then the voxels of each layer, so there
are two chains of small objects. Each object maps forward and back; what it fitted on the training
showers are its buffers, saved as data. The inverse is plain tensor arithmetic without branches on
values, so that it can be part of an ONNX graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.errors import unknown_name
from caloforge.geometry import Geometry

HIT_GAP = 0.25
"""Half the distance in log(energy / threshold) that is kept between hits and censored zeros."""

NOISE_GAP = 1e-3
"""Share of the threshold that is kept between hits and the noise that fills zeros."""


@dataclass(frozen=True)
class ShowerContext:
    """What is known of a shower before its voxels.

    Attributes:
        layer_energy: (B, L) MeV.
        voxel_layer_energy: (B, V) MeV, the energy of the layer that each voxel is in.
        threshold: MeV; a voxel with less is 0.
    """

    layer_energy: Tensor
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

    def by_layer(self, voxels: Tensor) -> Tensor:
        """Return (B, L, longest layer) of voxels (B, V), filled with zeros."""
        return voxels[:, self.table] * self.valid

    def sum(self, voxels: Tensor) -> Tensor:
        """Return the energy of each layer, (B, L), of voxels (B, V)."""
        return self.by_layer(voxels).sum(2)

    def spread(self, layer_values: Tensor) -> Tensor:
        """Return (B, V): the layer's value of (B, L) at each of its voxels."""
        return layer_values[:, self.layer_of_voxel]

    def context(self, layer_energy: Tensor, threshold: float) -> ShowerContext:
        """Return the context of showers with these layer energies, (B, L) MeV."""
        return ShowerContext(layer_energy, self.spread(layer_energy), threshold)


class VoxelStep(nn.Module, ABC):
    """One invertible step from voxel energies towards network space."""

    name: str

    @abstractmethod
    def encode(self, x: Tensor, context: ShowerContext, draws: Draws) -> Tensor:
        """Map (B, V) forward; random numbers, where needed, come from ``draws``."""

    @abstractmethod
    def decode(self, x: Tensor, context: ShowerContext) -> Tensor:
        """Map (B, V) back."""

    def config(self) -> dict[str, Any]:
        """Return the arguments that make this step again."""
        return {"name": self.name}


class EnergyFraction(VoxelStep):
    """Divide each voxel by the energy of its layer; an empty layer stays 0."""

    name = "energy_fraction"

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

    name = "logit"

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

    name = "power"

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


class CensoredLog(VoxelStep):
    """log(energy / threshold) of hits; zeros are censored values on the other side of 0.

    A hit is coded as log(v / threshold) + 0.25, a zero as -0.25 - |n| with n from N(0, 1): the
    network sees a continuous variable without a spike, and its sign says whether there is a hit.
    """

    name = "censored_log"

    def encode(self, x: Tensor, context: ShowerContext, draws: Draws) -> Tensor:
        """MeV to signed log of energy over threshold."""
        noise = draws.normal(*x.shape, dtype=x.dtype)
        hit = torch.log(x.clamp_min(context.threshold) / context.threshold) + HIT_GAP
        return torch.where(x >= context.threshold, hit, -HIT_GAP - noise.abs())

    def decode(self, x: Tensor, context: ShowerContext) -> Tensor:
        """Signed log to MeV; exactly 0 for negative values."""
        # A bound far above any layer keeps exp() finite for wild network outputs.
        energy = context.threshold * torch.exp((x - HIT_GAP).clamp(0, 40))
        return torch.where(x > 0, energy, torch.zeros_like(x))


class Standardise(VoxelStep):
    """Subtract the mean and divide by the standard deviation of each voxel on the training showers."""

    name = "standardise"
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


class VoxelFit:
    """Moments of the coded voxels, one batch after the other."""

    def __init__(self, chain: Sequence[VoxelStep]) -> None:
        """Take a chain that ends with a standardisation."""
        *self._before, last = chain
        assert isinstance(last, Standardise)
        self._standardise = last
        self._moments = RunningMoments(len(last.mean))

    def update(self, voxels: Tensor, context: ShowerContext, draws: Draws) -> None:
        """Add voxels (B, V) in MeV."""
        for step in self._before:
            voxels = step.encode(voxels, context, draws)
        self._moments.update(voxels)

    def finish(self) -> None:
        """Set the standardisation."""
        self._moments.fill(self._standardise)


VOXEL_SCALINGS: dict[str, Callable[[], list[VoxelStep]]] = {
    "censored_log": lambda: [CensoredLog()],
    "logit": lambda: [EnergyFraction(), Logit()],
    "power": lambda: [EnergyFraction(), Power()],
}
"""The voxel codings that preprocessing offers; its settings know the names without importing torch."""


class VoxelTransform(nn.Module):
    """The chain for the second stage: voxels (B, V) in MeV, given their layer energies.

    Attributes:
        steps: the chain, applied in order and inverted in reverse order.
    """

    def __init__(self, geometry: Geometry, scaling: str) -> None:
        super().__init__()
        if scaling not in VOXEL_SCALINGS:
            raise unknown_name("voxel scaling", scaling, VOXEL_SCALINGS)
        self.scaling = scaling
        self._chain = (*VOXEL_SCALINGS[scaling](), Standardise(geometry.n_voxels))
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
        """Return what fits the standardisation, batch by batch."""
        return VoxelFit(self._chain)

    def config(self) -> list[dict[str, Any]]:
        """Return the chain as a list of named steps, for people to read."""
        return [step.config() for step in self._chain]


class LayerEnergyTransform(nn.Module):
    """The chain for the first stage: layer energies given E_inc, as ratios on the real line.

    u_0 = E_tot / E_inc, and u_i = E_i / sum_{j >= i} E_j for all layers but the last; u_0 is coded
    as a logarithm, the others by logit, then standardised. Ratios of empty layers and of the last
    layer with energy are fixed by which layers have energy at all; they carry noise.

    Source: Krause and Shih, CaloFlow, arXiv:2106.05285, section III; the ratios as in Favaro et al.,
    CaloDREAM, arXiv:2405.09629, eq. 9.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.n_layers = n_layers
        self.standardise = Standardise(n_layers)

    def encode(self, layer_energy: Tensor, incident_energy: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Map layer energies (B, L) MeV to (B, L) numbers and the (B, L) mask of layers with energy."""
        raw, free = self.raw(layer_energy, incident_energy)
        noise = draws.normal(*raw.shape, dtype=raw.dtype)
        return torch.where(free, self.standardise.encode(raw, None, None), noise), layer_energy > 0

    def decode(self, y: Tensor, active: Tensor, incident_energy: Tensor) -> Tensor:
        """Map (B, L) numbers and the mask of layers with energy back to (B, L) MeV."""
        raw = self.standardise.decode(y, None)
        total = incident_energy * torch.exp(raw[:, :1].clamp(-30, 10))
        here = active[:, :-1]
        zero = torch.zeros_like(raw[:, 1:])
        ratio = torch.where(here, torch.sigmoid(raw[:, 1:]), zero)
        # The last layer with energy takes all that remains, whichever layer it is.
        ratio = torch.where(_is_last_active(active)[:, :-1], torch.ones_like(zero), ratio)
        # What remains is a running product of 1 - u_i, taken as a sum of logs: ONNX has no product.
        log_rest = torch.where(here, torch.nn.functional.logsigmoid(-raw[:, 1:]), zero)
        remaining = torch.exp(torch.cumsum(torch.cat([torch.zeros_like(total), log_rest], 1), 1))
        return total * remaining * torch.cat([ratio, active[:, -1:].to(ratio.dtype)], 1)

    def fit(self) -> LayerEnergyFit:
        """Return what fits the standardisation, batch by batch."""
        return LayerEnergyFit(self)

    @staticmethod
    def raw(layer_energy: Tensor, incident_energy: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coded ratios before standardisation, and which of them are free."""
        energy = layer_energy.double()
        below = energy.flip(1).cumsum(1).flip(1)  # sum over this layer and those behind it
        total = torch.log(below[:, :1].clamp_min(1e-30) / incident_energy.double())
        ahead, behind = energy[:, :-1], below[:, 1:]
        # logit(E_i / sum_{j>=i}) = log E_i - log sum_{j>i}, exact in the tails.
        ratio = torch.log(ahead.clamp_min(1e-30)) - torch.log(behind.clamp_min(1e-30))
        free = torch.cat([below[:, :1] > 0, (ahead > 0) & (behind > 0)], 1)
        return torch.cat([total, ratio], 1).float(), free


class LayerEnergyFit:
    """Moments of the coded layer energies, one batch after the other."""

    def __init__(self, transform: LayerEnergyTransform) -> None:
        """Start empty."""
        self._transform = transform
        self._moments = RunningMoments(transform.n_layers)

    def update(self, layer_energy: Tensor, incident_energy: Tensor) -> None:
        """Add layer energies (B, L) and incident energies (B, 1) in MeV."""
        self._moments.update(*self._transform.raw(layer_energy, incident_energy))

    def finish(self) -> None:
        """Set the standardisation."""
        self._moments.fill(self._transform.standardise)


def _is_last_active(active: Tensor) -> Tensor:
    """Return the (B, L) mask of the last layer with energy of each shower."""
    count_behind = active.long().flip(1).cumsum(1).flip(1)  # active layers from here on
    return active & (count_behind == 1)


def restore_layers(voxels: Tensor, layer_energy: Tensor, sums: LayerSums, threshold: float) -> Tensor:
    """Make voxels agree with their layer energies and the threshold.

    Voxels under the threshold become exact zeros, each layer sums to its energy, and a layer with
    energy whose voxels all fell under the threshold gets it in its highest voxel.

    Args:
        voxels: (B, V) MeV, not negative.
        layer_energy: (B, L) MeV.
        sums: sums over layers of the geometry.
        threshold: MeV.

    Returns:
        (B, V) MeV.
    """
    wanted = sums.spread(layer_energy)
    for _ in range(2):  # scaling a layer down can push voxels under the threshold once more
        keep = (voxels >= threshold * (1 - 1e-6)) | _highest_in_layer(voxels, sums)
        voxels = torch.where(keep & (wanted > 0), voxels, torch.zeros_like(voxels))
        voxels = _scale_to(voxels, wanted, sums)
    return voxels


def _scale_to(voxels: Tensor, wanted: Tensor, sums: LayerSums) -> Tensor:
    found = sums.spread(sums.sum(voxels))
    return voxels * (wanted / found.clamp_min(1e-20))


def _highest_in_layer(voxels: Tensor, sums: LayerSums) -> Tensor:
    """Return the (B, V) mask of the voxel with the most energy in each layer, the first of equal ones."""
    return sums.place_in_layer == sums.spread(sums.by_layer(voxels).argmax(2))
