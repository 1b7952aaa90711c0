"""Conditional variational auto-encoder."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.family import VoxelModel
from caloforge.models.networks import NetworkConfig, build_network


class VAEConfig(Config):
    """Hyper-parameters of the VAE.

    Attributes:
        network: backbone of encoder and decoder.
        latent: latent numbers.
        beta: weight of the Kullback-Leibler term (Higgins et al., beta-VAE).
    """

    network: NetworkConfig = NetworkConfig()
    latent: int = 24
    beta: float = 1.0


class VAE(VoxelModel):
    """Gaussian decoder whose width per voxel is learnt and drawn at sampling.

    Without its width a decoder gives the mean shower, which has the wrong number of hits.
    Source: Kingma and Welling, arXiv:1312.6114, eqs. 7 and 10; learnt width as in
    Rybkin et al., sigma-VAE, arXiv:2006.13202.
    """

    Config = VAEConfig

    def __init__(self, geometry: Geometry, n_conditions: int, config: VAEConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.latent, self.beta = config.latent, config.beta
        self.noise_features = config.latent + geometry.n_voxels
        self.encoder = build_network(geometry, config.network, n_conditions=n_conditions, channels=1)
        self.to_latent = torch.nn.Linear(geometry.n_voxels, 2 * config.latent)
        self.from_latent = torch.nn.Linear(config.latent, geometry.n_voxels)
        self.decoder = build_network(geometry, config.network, n_conditions=n_conditions + config.latent, channels=2)

    def forward(self, part: str, x: Tensor, condition: Tensor, generator: Generator) -> Tensor:
        """Return the negative evidence lower bound per voxel."""
        mean, log_var = self.to_latent(F.silu(self.encoder(x, condition))).chunk(2, 1)
        log_var = log_var.clamp(-12, 12)
        noise = torch.randn(mean.shape, generator=generator, device=x.device)
        mu, log_sigma = self._decode(mean + torch.exp(log_var / 2) * noise, condition)
        nll = 0.5 * ((x - mu) * torch.exp(-log_sigma)) ** 2 + log_sigma + 0.5 * math.log(2 * math.pi)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var)
        loss: Tensor = (nll.sum(1) + self.beta * kl.sum(1)).mean() / x.shape[1]
        return loss

    def _decode(self, latent: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        out = self.decoder(self.from_latent(latent), torch.cat([condition, latent], 1))
        mu, log_sigma = out.reshape(latent.shape[0], -1, 2).unbind(2)
        return mu, log_sigma.clamp(-4, 2)

    def decode(self, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Decode a latent and add the learnt width."""
        latent, width = noise[:, : self.latent], noise[:, self.latent :]
        mu, log_sigma = self._decode(latent, condition)
        return mu + torch.exp(log_sigma) * width
