"""First stage of every generator: which layers have energy, and how much, given the conditions."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zuko.nn import MaskedMLP

from caloforge.models.coupling_flow import SplineCoupling, negative_log_likelihood, splits
from caloforge.models.family import TrainableModel
from caloforge.models.networks import NetworkConfig, ResidualMLP
from caloforge.preprocessing.draws import Draws


class LayerEnergies(TrainableModel):
    """Bernoulli numbers for empty layers, each given those before it, and a spline flow for ratios.

    p(active, y | c) = prod_i p(active_i | active_{<i}, c) p(y | active, c) with the coded ratios y of
    :class:`caloforge.preprocessing.transforms.LayerEnergyTransform`. All families share it: a right
    total energy and right empty layers do not depend on how voxels are drawn.
    The masked network is Germain et al., MADE, arXiv:1502.03509.
    """

    def __init__(self, n_layers: int, n_conditions: int, *, width: int = 96, couplings: int = 6, bins: int = 8) -> None:
        super().__init__()
        self.n_layers = n_layers
        adjacency = torch.cat(
            [torch.ones(n_layers, n_conditions), torch.tril(torch.ones(n_layers, n_layers), -1)], 1
        ).bool()
        self.occupancy = MaskedMLP(adjacency, [width, width], activation=nn.SiLU)
        config = NetworkConfig(width=width, blocks=1)
        self.couplings = nn.ModuleList(
            SplineCoupling(
                ResidualMLP(len(kept), len(moved) * (3 * bins - 1), n_conditions + n_layers, config),
                kept, moved, bins=bins, bound=6.0,
            )
            for kept, moved in splits(n_layers, couplings)
        )  # fmt: skip
        self.noise_features = 2 * n_layers

    def forward(self, part: str, x: Tensor, condition: Tensor, draws: Draws) -> Tensor:
        """Return the negative log-likelihood per layer of x = [coded ratios (B, L), active (B, L)]."""
        y, active = x.chunk(2, 1)
        logits = self.occupancy(torch.cat([condition, active], 1)).float()
        occupancy = F.binary_cross_entropy_with_logits(logits, active, reduction="none").sum(1)
        ratios = negative_log_likelihood(self.couplings, y, torch.cat([condition, active], 1))
        return (occupancy + ratios).mean() / self.n_layers

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
