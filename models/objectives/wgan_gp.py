"""The Wasserstein distance between showers and generated ones, with a gradient penalty."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.networks.adversaries import Adversaries
from caloforge.models.objectives.adversarial import Adversarial, slope
from caloforge.models.objectives.objective import ObjectiveConfig


class WGANGPConfig(ObjectiveConfig):
    """Settings of the WGAN-GP.

    Attributes:
        name: ``wgan_gp``.
        penalty: weight of the gradient penalty. The 10 of the source, whose slope is not measured per root of V, are
            10 / sqrt(V) here: 0.46 for 480 voxels.
    """

    name: str = "wgan_gp"
    penalty: float = Field(default=0.5, ge=0)


class WGANGP(Adversarial):
    """Generator against a critic whose gradient norm is held at 1; three critic steps to one.

    Source: Gulrajani et al., arXiv:1704.00028, eq. 3 and algorithm 1.
    """

    Config = WGANGPConfig
    parts: ClassVar[tuple[str, ...]] = ("critic", "critic", "critic", "generator")

    def of_critic(self, network: Adversaries, x: Tensor, fake: Tensor, condition: Tensor, draws: Draws) -> Tensor:
        """Return the negative distance that the critic sees, and the penalty."""
        distance = network.critic(fake, condition).mean() - network.critic(x, condition).mean()
        mix = draws.uniform(len(x), 1)
        between = mix * x + (1 - mix) * fake
        penalty: Tensor = self.config.penalty * gradient_penalty(network.critic, between, condition)
        return distance + penalty

    def of_generator(self, score: Tensor) -> Tensor:
        """Return the negative score."""
        return -score.mean()


def gradient_penalty(critic: Callable[[Tensor, Tensor], Tensor], x: Tensor, condition: Tensor) -> Tensor:
    """Return (), the mean of (|grad critic| - 1)^2 at x (B, V); the norm is :func:`slope`."""
    norm = slope(critic, x, condition)
    return ((norm - 1) ** 2).mean()
