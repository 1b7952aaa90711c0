"""The Wasserstein distance between showers and generated ones, with a gradient penalty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.networks.adversaries import Adversaries
from caloforge.models.networks.architecture import Architecture
from caloforge.models.objectives.objective import Loss, Meaning, Objective, ObjectiveConfig


class WGANGPConfig(ObjectiveConfig):
    """Settings of the WGAN-GP.

    Attributes:
        name: ``wgan_gp``.
        penalty: weight of the gradient penalty.
    """

    name: str = "wgan_gp"
    penalty: float = Field(default=10.0, ge=0)


class WGANGP(Objective):
    """Generator against a critic whose gradient norm is held at 1; three critic steps to one.

    Source: Gulrajani et al., arXiv:1704.00028, eq. 3 and algorithm 1.
    """

    Config = WGANGPConfig
    works_on = Adversaries
    gives: ClassVar[Meaning] = "map"
    parts: ClassVar[tuple[str, ...]] = ("critic", "critic", "critic", "generator")
    betas: ClassVar[tuple[float, float]] = (0.0, 0.9)

    def parameters_of(self, network: Architecture, part: str) -> list[nn.Parameter]:
        """Split the parameters between the two players."""
        assert isinstance(network, Adversaries)
        if part == "generator":
            return list(network.generator.parameters())
        return [*network.features.parameters(), *network.score.parameters()]

    def loss(self, network: Adversaries, batch: Batch, draws: Draws, *, part: str = "critic") -> Loss:
        """Return the critic's or the generator's loss; the generator's estimate is what it has drawn."""
        x, condition = batch.coded, batch.condition
        noise = draws.normal(len(x), network.noise_features)
        if part == "generator":
            with _held(network.features, network.score):
                drawn = network.draw(noise, condition)
                return Loss(-network.critic(drawn, condition).mean(), estimate=lambda: drawn)
        with torch.no_grad():
            fake = network.draw(noise, condition)
        distance = network.critic(fake, condition).mean() - network.critic(x, condition).mean()
        mix = draws.uniform(len(x), 1)
        between = mix * x + (1 - mix) * fake
        return Loss(distance + self.config.penalty * gradient_penalty(network.critic, between, condition))

    def view(self, network: Adversaries) -> Callable[..., Tensor]:
        """Return the generator."""
        return network.draw


def gradient_penalty(critic: Callable[[Tensor, Tensor], Tensor], x: Tensor, condition: Tensor) -> Tensor:
    """Return (), the mean of (|grad critic| - 1)^2 at x (B, V).

    The norm is measured per root of V, so that the critic's slope means the same for any number of voxels.
    """
    x = x.requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no second derivative
        score = critic(x, condition)
    (gradient,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    norm: Tensor = gradient.norm(2, 1) * x.shape[1] ** 0.5
    return ((norm - 1) ** 2).mean()


@contextmanager
def _held(*networks: nn.Module) -> Iterator[None]:
    """Take networks as they are: no gradients of their own parameters are worked out, nor sent to other processes."""
    for network in networks:
        network.requires_grad_(False)
    yield
    for network in networks:
        network.requires_grad_(True)
