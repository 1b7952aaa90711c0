"""Rational-quadratic coupling layers: an invertible network with a known Jacobian."""

from __future__ import annotations

import math
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from zuko.transforms import MonotonicRQSTransform

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.configuration import by_default
from caloforge.models.networks.backbone import Kind, NetworkChoice, build_network
from caloforge.models.networks.invertible import Invertible


class CouplingsConfig(Config):
    """What the couplings are made of.

    Attributes:
        network: backbone of each coupling's sub-network.
        couplings: number of coupling layers; each moves half of the voxels.
        bins: bins of each spline.
        bound: splines act in [-bound, bound], beyond it the map is the identity.
    """

    network: NetworkChoice = by_default(backbone="mlp", width=192, blocks=1)
    couplings: int = Field(default=6, gt=0)
    bins: int = Field(default=8, gt=0)
    bound: float = Field(default=8.0, gt=0)


class SplineCoupling(nn.Module):
    """Move half of the features by splines that depend on the other half and the condition.

    Source: Durkan et al., neural spline flows, arXiv:1906.04032, section 3.
    """

    kept: Tensor
    moved: Tensor
    order: Tensor

    def __init__(self, network: nn.Module, kept: Tensor, moved: Tensor, *, bins: int, bound: float) -> None:
        """Join a sub-network to a split of the features.

        Args:
            network: maps kept features and condition to ``(3 bins - 1)`` numbers per moved one.
            kept: columns that stay, rising.
            moved: columns that move, rising.
            bins: bins of each spline.
            bound: half-width of the interval on which splines act.
        """
        super().__init__()
        self.network, self.bins, self.bound = network, bins, bound
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("moved", moved, persistent=False)
        self.register_buffer("order", torch.argsort(torch.cat([kept, moved])), persistent=False)
        # Small numbers make it the identity at first; the network's own size sets how fast it leaves.
        self.scale = nn.Parameter(torch.tensor(0.1))

    def _spline(self, kept: Tensor, condition: Tensor) -> MonotonicRQSTransform:
        numbers = self.scale * self.network(kept, condition).float()
        numbers = numbers.reshape(kept.shape[0], -1, 3 * self.bins - 1)
        widths, heights, slopes = numbers.split([self.bins, self.bins, self.bins - 1], -1)
        return MonotonicRQSTransform(widths, heights, slopes, bound=self.bound)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moved x (B, F) and the log-determinant (B,)."""
        kept = x[:, self.kept]
        moved, log_slope = self._spline(kept, condition).call_and_ladj(x[:, self.moved])
        return torch.cat([kept, moved], 1)[:, self.order], log_slope.sum(1)

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        """Undo :meth:`forward`."""
        kept = z[:, self.kept]
        # Not .inv(): it refers to the spline, which refers to it, and the numbers of both stay in memory until
        # Python looks for such circles.
        moved = cast("Tensor", self._spline(kept, condition)._inverse(z[:, self.moved]))
        return torch.cat([kept, moved], 1)[:, self.order]


def splits(n_features: int, couplings: int) -> list[tuple[Tensor, Tensor]]:
    """Return (kept, moved) columns for each coupling: random halves, each followed by its complement.

    They depend only on the two numbers, so a saved flow is rebuilt without saving them.
    """
    generator = torch.Generator().manual_seed(n_features)
    pairs: list[tuple[Tensor, Tensor]] = []
    while len(pairs) < couplings:
        order = torch.randperm(n_features, generator=generator)
        first, second = order[: n_features // 2].sort().values, order[n_features // 2 :].sort().values
        # A single feature has no other half: it moves given the condition alone.
        pairs += [(kept, moved) for kept, moved in ((first, second), (second, first)) if len(moved)]
    return pairs[:couplings]


def negative_log_likelihood(couplings: nn.ModuleList, x: Tensor, condition: Tensor) -> Tensor:
    """Return (B,) -log p(x | condition) of a stack of couplings over a standard normal base."""
    log_det = x.new_zeros(len(x))
    for coupling in couplings:
        x, log_slope = coupling(x, condition)
        log_det = log_det + log_slope
    return 0.5 * (x**2 + math.log(2 * math.pi)).sum(1) - log_det


class Couplings(Invertible):
    """An invertible map between showers and normal noise, given a condition."""

    Config = CouplingsConfig
    title: ClassVar[str] = "an invertible map"
    needs: ClassVar[Kind] = "part of V -> part of V"

    def __init__(self, geometry: Geometry, n_conditions: int, config: CouplingsConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.noise_features = geometry.n_voxels
        self.couplings = nn.ModuleList(
            SplineCoupling(
                build_network(
                    geometry, config.network, n_conditions=n_conditions, channels=3 * config.bins - 1,
                    inputs=kept, outputs=moved,
                ),
                kept, moved, bins=config.bins, bound=config.bound,
            )
            for kept, moved in splits(geometry.n_voxels, config.couplings)
        )  # fmt: skip

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (B,) -log p(x | condition)."""
        return negative_log_likelihood(self.couplings, x, condition)

    def draw(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Run the flow backwards: noise (B, V) to showers (B, V)."""
        x = noise
        for coupling in reversed(list(self.couplings)):
            x = cast("SplineCoupling", coupling).inverse(x, condition)
        return x
