"""A generator of showers and a critic that scores them."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.configuration import by_default
from caloforge.models.networks.backbone import Kind, NetworkChoice, build_network
from caloforge.models.networks.critic import WithCritic, normalise_spectrally


class AdversariesConfig(Config):
    """What the two are made of.

    Attributes:
        network: backbone of generator and critic.
        latent: latent numbers that all voxels share.
        spectral_norm: whether all linear maps of both are divided by their largest singular value.
    """

    network: NetworkChoice = by_default(backbone="mlp")
    latent: int = Field(default=32, gt=0, le=65_536)
    spectral_norm: bool = False


class Adversaries(WithCritic):
    """A generator of latent numbers that all voxels share, and noise of each voxel's own.

    The coding of zeros is noisy, and a critic would spot a generator that cannot be.
    """

    Config = AdversariesConfig
    title: ClassVar[str] = "a generator and a critic"
    needs: ClassVar[Kind] = "V -> V"

    def __init__(self, geometry: Geometry, n_conditions: int, config: AdversariesConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.latent = config.latent
        self.noise_features = config.latent + geometry.n_voxels
        self.generator = build_network(geometry, config.network, n_conditions=n_conditions + config.latent, channels=2)
        if config.spectral_norm:
            normalise_spectrally(self.generator)
        self.add_critic(geometry, n_conditions, config.network, normalised=config.spectral_norm)

    def draw(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Map latent and voxel noise (B, noise_features) to showers (B, V) in one pass."""
        latent, voxel_noise = noise[:, : self.latent], noise[:, self.latent :]
        out = self.generator(voxel_noise, torch.cat([condition, latent], 1))
        mean, log_sigma = out.reshape(noise.shape[0], -1, 2).unbind(2)
        x: Tensor = mean + torch.exp(log_sigma.clamp(-4, 2)) * voxel_noise
        return x
