"""Codings of what is drawn before the voxels: the energies of the layers, and how many of their voxels are hit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.geometry import Geometry
from caloforge.preprocessing.voxel_steps import RunningMoments, Standardise


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


class LayerHitTransform(nn.Module):
    """Hits of each layer given its energy, as a number on the real line.

    Of m voxels that can be hit (all of the layer, or as many as its energy has thresholds) n are:
    logit((n - 1 + u) / m) with u uniform in [0, 1), then standardised. Where m is 1 there is nothing to draw.
    """

    capacity: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        capacity = torch.tensor(geometry.layer_sizes, dtype=torch.float32)
        self.register_buffer("capacity", capacity, persistent=False)
        self.standardise = Standardise(geometry.n_layers)

    def most(self, layer_energy: Tensor, threshold: float) -> Tensor:
        """Return how many voxels (B, L) layers with these energies (B, L) in MeV can have hit, at least 1."""
        return torch.minimum(torch.floor(layer_energy / threshold * (1 + 1e-6)), self.capacity).clamp_min(1)

    def encode(self, hits: Tensor, layer_energy: Tensor, threshold: float, draws: Draws) -> Tensor:
        """Map hits (B, L) to numbers (B, L); those of empty layers are noise."""
        raw = self.raw(hits, self.most(layer_energy, threshold), draws)
        noise = draws.normal(*raw.shape, dtype=raw.dtype)
        return torch.where(hits > 0, self.standardise.encode(raw, None, None), noise)

    def decode(self, y: Tensor, layer_energy: Tensor, threshold: float) -> Tensor:
        """Map numbers (B, L) to hits (B, L); a layer without energy has none."""
        most = self.most(layer_energy, threshold)
        place = torch.sigmoid(self.standardise.decode(y, None)) * most
        return torch.where(layer_energy > 0, torch.minimum(torch.floor(place) + 1, most), torch.zeros_like(most))

    def fit(self) -> LayerHitFit:
        """Return what fits the standardisation, batch by batch."""
        return LayerHitFit(self)

    @staticmethod
    def raw(hits: Tensor, most: Tensor, draws: Draws) -> Tensor:
        """Return the coded hits before standardisation."""
        uniform = draws.uniform(*hits.shape, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        return torch.logit((hits.clamp_min(1) - 1 + uniform) / most.double()).float()


class LayerHitFit:
    """Moments of the coded hits, one batch after the other."""

    def __init__(self, transform: LayerHitTransform) -> None:
        """Start empty."""
        self._transform = transform
        self._moments = RunningMoments(len(transform.capacity))

    def update(self, hits: Tensor, layer_energy: Tensor, threshold: float, draws: Draws) -> None:
        """Add hits (B, L) and energies (B, L) in MeV of layers."""
        raw = self._transform.raw(hits, self._transform.most(layer_energy, threshold), draws)
        self._moments.update(raw, hits > 0)

    def finish(self) -> None:
        """Set the standardisation."""
        self._moments.fill(self._transform.standardise)


def _is_last_active(active: Tensor) -> Tensor:
    """Return the (B, L) mask of the last layer with energy of each shower."""
    count_behind = active.long().flip(1).cumsum(1).flip(1)  # active layers from here on
    return active & (count_behind == 1)
