"""First stage of every voxel family: which layers have energy, how much, and how many hits, given the conditions."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zuko.nn import MaskedMLP

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.conditions import ConditionEncoder
from caloforge.models.family import TrainableModel
from caloforge.models.networks.couplings import SplineCoupling, negative_log_likelihood, splits
from caloforge.models.networks.mlp import MLPConfig, ResidualMLP
from caloforge.preprocessing.transforms import Transforms


class LayerEnergies(TrainableModel):
    """Bernoulli numbers for empty layers, each given those before it, and spline flows for ratios and for hits.

    p(active, y, h | c) = prod_i p(active_i | active_{<i}, c) p(y | active, c) p(h | E, c) with the coded ratios y and
    hits h of :mod:`caloforge.preprocessing.layer_transforms`, and the layer energies E that follow from the ratios.
    All families share it: a right total energy and the right number of hits do not depend on how voxels are drawn.
    The masked network is Germain et al., MADE, arXiv:1502.03509.
    """

    def __init__(self, n_layers: int, n_conditions: int, *, width: int = 96, couplings: int = 6, bins: int = 8) -> None:
        super().__init__()
        self.n_layers = n_layers
        adjacency = torch.cat(
            [torch.ones(n_layers, n_conditions), torch.tril(torch.ones(n_layers, n_layers), -1)], 1
        ).bool()
        self.occupancy = MaskedMLP(adjacency, [width, width], activation=nn.SiLU)
        config = MLPConfig(width=width, blocks=1)

        def flow(n_given: int, n: int) -> nn.ModuleList:
            return nn.ModuleList(
                SplineCoupling(
                    ResidualMLP(len(kept), len(moved) * (3 * bins - 1), n_given, config),
                    kept, moved, bins=bins, bound=6.0,
                )
                for kept, moved in splits(n_layers, n)
            )  # fmt: skip

        self.couplings = flow(n_conditions + n_layers, couplings)
        self.hits = flow(n_conditions + 2 * n_layers, max(1, 2 * couplings // 3))
        self.noise_features = 3 * n_layers

    def forward(self, part: str, batch: Batch, draws: Draws) -> Tensor:
        """Return the negative log-likelihood per layer of a batch coded by :func:`layer_batch`."""
        n = self.n_layers
        y, active, h, told = torch.split(batch.coded, [n, n, n, 2 * n], 1)
        energies = self.negative_log_likelihood(y, active, batch.condition)
        hits = negative_log_likelihood(self.hits, h, torch.cat([batch.condition, told], 1))
        return (energies + hits).mean() / self.n_layers

    def negative_log_likelihood(self, y: Tensor, active: Tensor, condition: Tensor) -> Tensor:
        """Return (B,) -log p(active, y | condition) of coded ratios (B, L) and the mask (B, L) of layers with energy."""
        seen = torch.cat([condition, active], 1)
        logits = self.occupancy(seen).float()
        occupancy = F.binary_cross_entropy_with_logits(logits, active, reduction="none").sum(1)
        return occupancy + negative_log_likelihood(self.couplings, y, seen)

    def decode(self, noise: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise (B, 2L) to coded ratios (B, L) and the mask of layers with energy (B, L)."""
        draw, base = noise.chunk(2, 1)
        # A uniform number from a normal one; an active layer has u < p, that is logit(u) < logit(p).
        uniform = 0.5 * (1 + torch.erf(draw / 2**0.5))
        threshold = torch.logit(uniform, eps=1e-7)
        active = torch.zeros_like(draw)
        columns = torch.eye(self.n_layers, device=noise.device)
        margin = torch.zeros_like(draw)
        for i in range(self.n_layers):
            logits = self.occupancy(torch.cat([condition, active], 1)).float()
            gap = logits[:, i : i + 1] - threshold[:, i : i + 1]
            margin = margin + gap * columns[i]
            active = active + (gap > 0).float() * columns[i]
        # A shower without any energy does not exist here: its likeliest layer gets some.
        nearest = (margin >= margin.max(1, keepdim=True).values).float()
        active = torch.where(active.sum(1, keepdim=True) > 0, active, nearest)
        x = base
        for coupling in reversed(list(self.couplings)):
            x = cast("SplineCoupling", coupling).inverse(x, torch.cat([condition, active], 1))
        return x, active

    def decode_hits(self, noise: Tensor, condition: Tensor, told: Tensor) -> Tensor:
        """Map noise (B, L) to coded hits (B, L), given :func:`energy_features` (B, 2L)."""
        x, given = noise, torch.cat([condition, told], 1)
        for coupling in reversed(list(self.hits)):
            x = cast("SplineCoupling", coupling).inverse(x, given)
        return x


def energy_features(layer_energy: Tensor, threshold: float) -> Tensor:
    """Return (B, 2L) of layer energies (B, L) in MeV: their logarithms, 0 for empty layers, and which are not empty."""
    active = (layer_energy > 0).to(layer_energy.dtype)
    log_energy = (torch.log(layer_energy.clamp_min(threshold) / threshold) - 4) / 3
    return torch.cat([log_energy * active, active], 1)


def hit_features(hits: Tensor, capacity: Tensor) -> Tensor:
    """Return (B, L) of hits (B, L) of layers with so many voxels (L,): half the log-odds of a hit, 0 in empty layers."""
    return torch.where(hits > 0, torch.log((hits + 0.5) / (capacity - hits + 0.5)) / 2, torch.zeros_like(hits))


def layer_batch(batch: Batch, transforms: Transforms, encoder: ConditionEncoder, draws: Draws) -> Batch:
    """Code the layers of a batch for :class:`LayerEnergies`: [ratios, active, hits, features of the energies] (B, 5L)."""

    def encode(showers: Batch) -> Tensor:
        energy = showers.layer_energy
        y, active = transforms.energies.encode(energy, showers.raw_conditions[:, :1], draws)
        h = transforms.hits.encode(showers.layer_hits, energy, showers.threshold, draws)
        return torch.cat([y, active.to(y.dtype), h, energy_features(energy, showers.threshold)], 1)

    return batch.seen_as(encoder(batch.raw_conditions), encode)
