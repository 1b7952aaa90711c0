"""Conditional flow matching on straight paths, sampled with Heun's method."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.family import VoxelModel
from caloforge.models.networks import NetworkConfig, build_network, time_features
from caloforge.preprocessing.draws import Draws

N_TIME_FEATURES = 32


class FlowMatchingConfig(Config):
    """Hyper-parameters of flow matching.

    Attributes:
        network: backbone of the velocity field.
        steps: Heun steps (two network passes each) when none are asked for.
    """

    network: NetworkConfig = NetworkConfig()
    steps: int = Field(default=12, gt=0)


class FlowMatching(VoxelModel):
    """Velocity of x_t = (1 - t) n + t x from noise n at t = 0 to the shower x at t = 1.

    Times are drawn logit-normally (Esser et al., arXiv:2403.03206, section 3.1).
    Source: Lipman et al., arXiv:2210.02747, eq. 23 with sigma_min = 0.
    """

    Config = FlowMatchingConfig

    def __init__(self, geometry: Geometry, n_conditions: int, config: FlowMatchingConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.default_steps: int = config.steps
        self.noise_features = geometry.n_voxels
        self.network = build_network(geometry, config.network, n_conditions=n_conditions + N_TIME_FEATURES)

    def forward(self, part: str, x: Tensor, condition: Tensor, draws: Draws) -> Tensor:
        """Return the mean squared error of the velocity at random times."""
        t = torch.sigmoid(draws.normal(len(x), 1))
        noise = draws.normal(*x.shape)
        return (self._velocity((1 - t) * noise + t * x, t, condition) - (x - noise)).square().mean()

    def _velocity(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        out: Tensor = self.network(x, torch.cat([condition, time_features(t, N_TIME_FEATURES)], 1))
        return out

    def decode(self, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Integrate from t = 0 to 1 with Heun's second-order method."""
        n = steps or self.default_steps
        x = noise
        for i in range(n):
            t = torch.full_like(x[:, :1], i / n)
            slope = self._velocity(x, t, condition)
            ahead = self._velocity(x + slope / n, t + 1 / n, condition)
            x = x + (slope + ahead) / (2 * n)
        return x
