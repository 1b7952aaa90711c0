"""A flow in which each voxel is moved given the voxels before it."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from zuko.transforms import MonotonicRQSTransform

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.configuration import by_default
from caloforge.models.networks.backbone import Kind, NetworkChoice, build_network
from caloforge.models.networks.invertible import Invertible


class MaskedFlowConfig(Config):
    """What the flow is made of.

    Attributes:
        network: masked backbone of each transform.
        transforms: how many; every other one goes through the voxels from the last to the first.
        bins: bins of each spline.
        bound: splines act in [-bound, bound], beyond it the map is the identity.
    """

    network: NetworkChoice = by_default(backbone="masked_mlp", width=256, blocks=1)
    transforms: int = Field(default=2, gt=0, le=1_000)
    bins: int = Field(default=8, gt=1)
    bound: float = Field(default=8.0, gt=0)


class MaskedFlow(Invertible):
    """Splines of each voxel that depend on those before it: one pass this way, V passes back.

    As a density of showers it is a masked autoregressive flow (Papamakarios et al., arXiv:1705.07057); run from noise to showers
    it is an inverse autoregressive one (Kingma et al., arXiv:1606.04934). Splines: Durkan et al., arXiv:1906.04032.
    """

    Config = MaskedFlowConfig
    title: ClassVar[str] = "an autoregressive map"
    needs: ClassVar[Kind] = "each of V from those before"

    def __init__(self, geometry: Geometry, n_conditions: int, config: MaskedFlowConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.noise_features, self.bins, self.bound = geometry.n_voxels, config.bins, config.bound
        self.networks = nn.ModuleList(
            build_network(geometry, config.network, n_conditions=n_conditions, channels=3 * config.bins - 1)
            for _ in range(config.transforms)
        )
        # Small numbers make it the identity at first, as in a coupling.
        self.scales = nn.Parameter(torch.full((config.transforms,), 0.1))

    def _spline(self, i: int, x: Tensor, condition: Tensor) -> MonotonicRQSTransform:
        numbers = self.scales[i] * self.networks[i](x, condition).float()
        widths, heights, slopes = numbers.unflatten(1, (-1, 3 * self.bins - 1)).split(
            [self.bins, self.bins, self.bins - 1], -1
        )
        return MonotonicRQSTransform(widths, heights, slopes, bound=self.bound)

    def through(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, V) in one pass a transform; return the result and the log-determinant (B,)."""
        log_det = x.new_zeros(len(x))
        for i in range(len(self.networks)):
            x, log_slope = self._spline(i, x, condition).call_and_ladj(x)
            x, log_det = x.flip(1), log_det + log_slope.sum(1)
        return x, log_det

    def push(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the first result of :meth:`through` alone."""
        for i in range(len(self.networks)):
            x = self._spline(i, x, condition)._call(x).flip(1)
        return x

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (B,) -log p(x | condition), with a standard normal density of what x is mapped to."""
        z, log_det = self.through(x, condition)
        return 0.5 * (z**2 + math.log(2 * math.pi)).sum(1) - log_det

    def draw(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Undo :meth:`through`, voxel after voxel: V passes a transform."""
        z = noise
        for i in reversed(range(len(self.networks))):
            z = z.flip(1)
            x = torch.zeros_like(z)
            for _ in range(z.shape[1]):
                x = self._spline(i, x, condition)._inverse(z)
            z = x
        return z
