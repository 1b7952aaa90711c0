"""What all games of a generator against a critic have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.networks.adversaries import Adversaries
from caloforge.models.networks.architecture import Architecture
from caloforge.models.objectives.objective import Loss, Meaning, Objective, held


class Adversarial(Objective):
    """Two players that move in turn; an objective says what each of them wants."""

    works_on = Adversaries
    gives: ClassVar[Meaning] = "map"
    parts: ClassVar[tuple[str, ...]] = ("critic", "generator")
    betas: ClassVar[tuple[float, float]] = (0.0, 0.9)

    @abstractmethod
    def of_critic(self, network: Adversaries, x: Tensor, fake: Tensor, condition: Tensor, draws: Draws) -> Tensor:
        """Return the loss () of the critic, given showers and generated ones, (B, V) each."""

    @abstractmethod
    def of_generator(self, score: Tensor) -> Tensor:
        """Return the loss () of a generator whose showers have these scores (B, 1)."""

    def parameters_of(self, network: Architecture, part: str) -> list[nn.Parameter]:
        """Split the parameters between the two players."""
        assert isinstance(network, Adversaries)
        return list(network.generator.parameters()) if part == "generator" else network.critic_parameters()

    def loss(self, network: Adversaries, batch: Batch, draws: Draws, *, part: str = "critic") -> Loss:
        """Return the critic's or the generator's loss; the generator's estimate is what it has drawn."""
        x, condition = batch.coded, batch.condition
        noise = draws.normal(len(x), network.noise_features)
        if part == "generator":
            with held(network.features, network.score):
                drawn = network.draw(noise, condition)
                return Loss(self.of_generator(network.critic(drawn, condition)), estimate=lambda: drawn)
        with torch.no_grad():
            fake = network.draw(noise, condition)
        return Loss(self.of_critic(network, x, fake, condition, draws))

    def view(self, network: Adversaries) -> Callable[..., Tensor]:
        """Return the generator."""
        return network.draw


def slope(critic: Callable[[Tensor, Tensor], Tensor], x: Tensor, condition: Tensor) -> Tensor:
    """Return the norm of the critic's gradient at each x (B, V), (B,).

    It is measured per root of V, so that the critic's slope means the same for any number of voxels.
    """
    x = x.detach().requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no second derivative
        score = critic(x, condition)
    (gradient,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    found: Tensor = gradient.norm(2, 1) * x.shape[1] ** 0.5
    return found
