"""Conditional variational auto-encoder."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.family import VoxelModel
from caloforge.models.networks import NetworkConfig, build_network
from caloforge.preprocessing.draws import Draws


class VAEConfig(Config):
    """Hyper-parameters of the VAE.

    Attributes:
        network: backbone of encoder and decoder.
        latent: latent numbers.
        beta: weight of the Kullback-Leibler term (Higgins et al., beta-VAE).
    """

    network: NetworkConfig = NetworkConfig()
    latent: int = Field(default=24, gt=0)
    beta: float = Field(default=1.0, ge=0)


class VAE(VoxelModel):
    """The decoder gives each voxel a mixture of two Gaussians, drawn at sampling.

    A voxel that may be hit or not has two modes: one Gaussian would put it between them, and its
    mean alone gives showers with the wrong number of hits.
    Sources: Kingma and Welling, arXiv:1312.6114, eqs. 7 and 10; mixture outputs as in Bishop,
    "Mixture density networks", 1994, eq. 23.
    """

    Config = VAEConfig

    def __init__(self, geometry: Geometry, n_conditions: int, config: VAEConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.latent, self.beta, self.n_voxels = config.latent, config.beta, geometry.n_voxels
        self.noise_features = config.latent + 2 * geometry.n_voxels
        self.encoder = build_network(geometry, config.network, n_conditions=n_conditions)
        self.to_latent = nn.Linear(geometry.n_voxels, 2 * config.latent)
        self.from_latent = nn.Linear(config.latent, geometry.n_voxels)
        self.decoder = build_network(geometry, config.network, n_conditions=n_conditions + config.latent, channels=5)

    def forward(self, part: str, x: Tensor, condition: Tensor, draws: Draws) -> Tensor:
        """Return the negative evidence lower bound per voxel."""
        mean, log_var = self.to_latent(F.silu(self.encoder(x, condition))).chunk(2, 1)
        log_var = log_var.clamp(-12, 12)
        noise = draws.normal(*mean.shape)
        logit, centre, log_width = self._mixture(mean + torch.exp(log_var / 2) * noise, condition)
        pull = (x[:, :, None] - centre) * torch.exp(-log_width)
        log_weight = F.logsigmoid(torch.stack([-logit, logit], 2))
        nll = -torch.logsumexp(log_weight - 0.5 * pull**2 - log_width, 2) + 0.5 * math.log(2 * math.pi)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var)
        loss: Tensor = (nll.sum(1) + self.beta * kl.sum(1)).mean() / self.n_voxels
        return loss

    def _mixture(self, latent: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log-odds of the upper mode (B, V), and centres and log-widths of both (B, V, 2)."""
        out = self.decoder(self.from_latent(latent), torch.cat([condition, latent], 1)).float()
        logit, low, high, low_width, high_width = out.reshape(latent.shape[0], -1, 5).unbind(2)
        # The modes start apart, below and above the mean of the standardised voxels.
        centre = torch.stack([low - 0.7, high + 0.7], 2)
        return logit, centre, torch.stack([low_width, high_width], 2).clamp(-4, 2)

    def decode(self, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Decode a latent, choose a mode per voxel and draw from it."""
        latent, choice, width = torch.split(noise, [self.latent, self.n_voxels, self.n_voxels], 1)
        logit, centre, log_width = self._mixture(latent, condition)
        uniform = 0.5 * (1 + torch.erf(choice / 2**0.5))
        upper = (torch.logit(uniform, eps=1e-7) < logit)[:, :, None]
        drawn = centre + torch.exp(log_width) * width[:, :, None]
        x: Tensor = torch.where(upper, drawn[:, :, 1:], drawn[:, :, :1]).squeeze(2)
        return x
