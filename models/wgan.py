"""Conditional Wasserstein GAN with gradient penalty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.family import VoxelModel
from caloforge.models.networks import NetworkConfig, build_network
from caloforge.preprocessing.draws import Draws


class WGANConfig(Config):
    """Hyper-parameters of the WGAN-GP.

    Attributes:
        network: backbone of generator and critic.
        latent: latent numbers that all voxels share.
        penalty: weight of the gradient penalty.
    """

    network: NetworkConfig = NetworkConfig()
    latent: int = Field(default=32, gt=0)
    penalty: float = Field(default=10.0, ge=0)


class WGAN(VoxelModel):
    """Generator against a critic whose gradient norm is held at 1; three critic steps to one.

    Each voxel also gets its own noise: the coding of zeros is noisy, and a critic would spot a
    generator that cannot be.
    Source: Gulrajani et al., arXiv:1704.00028, eq. 3 and algorithm 1.
    """

    Config = WGANConfig
    parts: ClassVar[tuple[str, ...]] = ("critic", "critic", "critic", "generator")
    betas: ClassVar[tuple[float, float]] = (0.0, 0.9)

    def __init__(self, geometry: Geometry, n_conditions: int, config: WGANConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.latent, self.penalty = config.latent, config.penalty
        self.noise_features = config.latent + geometry.n_voxels
        self.generator = build_network(geometry, config.network, n_conditions=n_conditions + config.latent, channels=2)
        self.features = build_network(geometry, config.network, n_conditions=n_conditions)
        self.score = nn.Sequential(nn.SiLU(), nn.Linear(geometry.n_voxels, 1))

    def parameters_of(self, part: str) -> list[nn.Parameter]:
        """Split the parameters between the two players."""
        if part == "generator":
            return list(self.generator.parameters())
        return [*self.features.parameters(), *self.score.parameters()]

    def forward(self, part: str, x: Tensor, condition: Tensor, draws: Draws) -> Tensor:
        """Return the critic's or the generator's loss."""
        noise = draws.normal(len(x), self.noise_features)
        if part == "generator":
            with _held(self.features, self.score):
                return -self._critic(self.decode(noise, condition, None), condition).mean()
        with torch.no_grad():
            fake = self.decode(noise, condition, None)
        distance = self._critic(fake, condition).mean() - self._critic(x, condition).mean()
        mix = draws.uniform(len(x), 1)
        between = (mix * x + (1 - mix) * fake).requires_grad_(True)
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no second derivative
            score = self._critic(between, condition)
        (gradient,) = torch.autograd.grad(score.sum(), between, create_graph=True)
        # Measured per root of V, so that the critic's slope means the same for any number of voxels.
        norm = gradient.norm(2, 1) * x.shape[1] ** 0.5
        loss: Tensor = distance + self.penalty * ((norm - 1) ** 2).mean()
        return loss

    def _critic(self, x: Tensor, condition: Tensor) -> Tensor:
        out: Tensor = self.score(self.features(x, condition))
        return out

    def decode(self, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Map latent and voxel noise to voxels in one pass."""
        latent, voxel_noise = noise[:, : self.latent], noise[:, self.latent :]
        out = self.generator(voxel_noise, torch.cat([condition, latent], 1))
        mean, log_sigma = out.reshape(noise.shape[0], -1, 2).unbind(2)
        x: Tensor = mean + torch.exp(log_sigma.clamp(-4, 2)) * voxel_noise
        return x


@contextmanager
def _held(*networks: nn.Module) -> Iterator[None]:
    """Take networks as they are: no gradients of their own parameters are worked out, nor sent to other processes."""
    for network in networks:
        network.requires_grad_(False)
    yield
    for network in networks:
        network.requires_grad_(True)
