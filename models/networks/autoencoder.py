"""An encoder to a few latent numbers, and a decoder that gives each voxel a mixture of two Gaussians."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.configuration import by_default
from caloforge.models.networks.architecture import Architecture
from caloforge.models.networks.backbone import Kind, NetworkChoice, build_network


class AutoencoderConfig(Config):
    """What the autoencoder is made of.

    Attributes:
        network: backbone of encoder and decoder.
        latent: latent numbers.
    """

    network: NetworkChoice = by_default(backbone="mlp")
    latent: int = Field(default=24, gt=0, le=65_536)


class Mixture(NamedTuple):
    """Two Gaussians for each voxel.

    Attributes:
        logit: (B, V) log-odds of the upper one.
        centre: (B, V, 2) lower and upper.
        log_width: (B, V, 2) logarithms of their standard deviations.
    """

    logit: Tensor
    centre: Tensor
    log_width: Tensor


class Autoencoder(Architecture):
    """Latent numbers of a shower, and the distribution of its voxels given them.

    A voxel that may be hit or not has two modes: one Gaussian would put it between them, and its
    mean alone gives showers with the wrong number of hits. Mixture outputs as in Bishop, "Mixture density
    networks", 1994, eq. 23.
    """

    Config = AutoencoderConfig
    title: ClassVar[str] = "an encoder and a decoder"
    needs: ClassVar[Kind] = "V -> V"

    def __init__(self, geometry: Geometry, n_conditions: int, config: AutoencoderConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.latent, self.n_voxels = config.latent, geometry.n_voxels
        self.noise_features = config.latent + 2 * geometry.n_voxels
        self.encoder = build_network(geometry, config.network, n_conditions=n_conditions)
        self.to_latent = nn.Linear(geometry.n_voxels, 2 * config.latent)
        self.from_latent = nn.Linear(config.latent, geometry.n_voxels)
        self.decoder = build_network(geometry, config.network, n_conditions=n_conditions + config.latent, channels=5)

    def encode(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latent numbers, (B, latent) each."""
        mean, log_var = self.to_latent(F.silu(self.encoder(x, condition))).chunk(2, 1)
        return mean, log_var.clamp(-12, 12)

    def decode(self, latent: Tensor, condition: Tensor) -> Mixture:
        """Return the distribution of each voxel given the latent numbers."""
        out = self.decoder(self.from_latent(latent), torch.cat([condition, latent], 1)).float()
        logit, low, high, low_width, high_width = out.reshape(latent.shape[0], -1, 5).unbind(2)
        # The modes start apart, below and above the mean of the standardised voxels.
        centre = torch.stack([low - 0.7, high + 0.7], 2)
        return Mixture(logit, centre, torch.stack([low_width, high_width], 2).clamp(-4, 2))

    def draw(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Decode a latent, choose a mode per voxel and draw from it: (B, noise_features) to (B, V)."""
        latent, choice, width = torch.split(noise, [self.latent, self.n_voxels, self.n_voxels], 1)
        logit, centre, log_width = self.decode(latent, condition)
        uniform = 0.5 * (1 + torch.erf(choice / 2**0.5))
        upper = (torch.logit(uniform, eps=1e-7) < logit)[:, :, None]
        drawn = centre + torch.exp(log_width) * width[:, :, None]
        x: Tensor = torch.where(upper, drawn[:, :, 1:], drawn[:, :, :1]).squeeze(2)
        return x
