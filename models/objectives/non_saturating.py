"""The game of the first generative adversarial networks, with a penalty that keeps it stable."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from caloforge.draws import Draws
from caloforge.models.networks.adversaries import Adversaries
from caloforge.models.objectives.adversarial import Adversarial, slope
from caloforge.models.objectives.objective import ObjectiveConfig


class NonSaturatingConfig(ObjectiveConfig):
    """Settings of the game.

    Attributes:
        name: ``non_saturating``.
        penalty: weight of the critic's squared slope at the true showers, R1.
    """

    name: str = "non_saturating"
    penalty: float = Field(default=0.1, ge=0)


class NonSaturating(Adversarial):
    """The critic's score is the log-odds that a shower is true; the generator raises those of its own.

    Source: Goodfellow et al., arXiv:1406.2661, section 3; penalty R1 of Mescheder et al., arXiv:1801.04406, eq. 9.
    """

    Config = NonSaturatingConfig

    def of_critic(self, network: Adversaries, x: Tensor, fake: Tensor, condition: Tensor, draws: Draws) -> Tensor:
        """Return the cross entropy of true and generated showers, and the penalty."""
        entropy = F.softplus(-network.critic(x, condition)).mean() + F.softplus(network.critic(fake, condition)).mean()
        if self.config.penalty == 0:
            return entropy
        penalty: Tensor = self.config.penalty / 2 * slope(network.critic, x, condition).square().mean()
        return entropy + penalty

    def of_generator(self, score: Tensor) -> Tensor:
        """Return the cross entropy of generated showers taken for true ones."""
        return F.softplus(-score).mean()
