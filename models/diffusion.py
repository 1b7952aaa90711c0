"""Conditional denoising diffusion: trained as DDPM, sampled with DDIM in any number of steps."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.family import VoxelModel
from caloforge.models.networks import NetworkConfig, build_network, time_features
from caloforge.preprocessing.draws import Draws

N_TIME_FEATURES = 32


class DiffusionConfig(Config):
    """Hyper-parameters of the diffusion model.

    Attributes:
        network: backbone of the denoiser.
        times: discrete noise levels T of the training.
        steps: DDIM steps when none are asked for.
    """

    network: NetworkConfig = NetworkConfig()
    times: int = Field(default=1000, gt=0)
    steps: int = Field(default=25, gt=0)


class Diffusion(VoxelModel):
    """Noise levels t = 1 .. T on the cosine schedule; the network predicts v.

    x_t = a_t x_0 + s_t n with a_t = cos(pi t / 2T), s_t = sin(pi t / 2T); v = a_t n - s_t x_0.

    Sources: Ho et al., DDPM, arXiv:2006.11239, algorithm 1; Nichol and Dhariwal, arXiv:2102.09672
    (cosine); Salimans and Ho, arXiv:2202.00512, section 4 and appendix D (v and its DDIM step);
    Song et al., DDIM, arXiv:2010.02502, eq. 12 with sigma = 0.
    """

    Config = DiffusionConfig

    def __init__(self, geometry: Geometry, n_conditions: int, config: DiffusionConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.times = config.times
        self.default_steps: int = config.steps
        self.noise_features = geometry.n_voxels
        self.network = build_network(geometry, config.network, n_conditions=n_conditions + N_TIME_FEATURES)

    def forward(self, part: str, x: Tensor, condition: Tensor, draws: Draws) -> Tensor:
        """Return the mean squared error of v at random noise levels."""
        level = draws.integers(1, self.times + 1, len(x), 1)
        angle = level / self.times * (math.pi / 2)
        noise = draws.normal(*x.shape)
        noisy = torch.cos(angle) * x + torch.sin(angle) * noise
        target = torch.cos(angle) * noise - torch.sin(angle) * x
        return (self._v(noisy, angle, condition) - target).square().mean()

    def _v(self, x: Tensor, angle: Tensor, condition: Tensor) -> Tensor:
        out: Tensor = self.network(x, torch.cat([condition, time_features(angle / (math.pi / 2), N_TIME_FEATURES)], 1))
        return out

    def decode(self, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Denoise from t = T to 0; the DDIM step is a rotation in the plane of x_0 and n."""
        n = steps or self.default_steps
        x = noise
        for i in range(n):
            now, then = (1 - i / n) * math.pi / 2, (1 - (i + 1) / n) * math.pi / 2
            angle = torch.full_like(x[:, :1], now)
            v = self._v(x, angle, condition)
            clean = math.cos(now) * x - math.sin(now) * v
            dirt = math.sin(now) * x + math.cos(now) * v
            x = math.cos(then) * clean + math.sin(then) * dirt
        return x
