"""Adversaries with margins."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from caloforge.draws import Draws
from caloforge.models.networks.adversaries import Adversaries
from caloforge.models.objectives.adversarial import Adversarial
from caloforge.models.objectives.objective import ObjectiveConfig


class HingeConfig(ObjectiveConfig):
    """It has no settings.

    Attributes:
        name: ``hinge``.
    """

    name: str = "hinge"


class Hinge(Adversarial):
    """The critic wants scores above 1 for true showers and below -1 for others; beyond that nothing is gained.

    Its slope is not held: use it with ``spectral_norm``. Source: Zhang et al., SAGAN, arXiv:1805.08318, eq. 4.
    """

    Config = HingeConfig

    def of_critic(self, network: Adversaries, x: Tensor, fake: Tensor, condition: Tensor, draws: Draws) -> Tensor:
        """Return what is missing to the margins."""
        return hinge(network.critic(x, condition), network.critic(fake, condition))

    def of_generator(self, score: Tensor) -> Tensor:
        """Return the negative score."""
        return -score.mean()


def hinge(true: Tensor, fake: Tensor) -> Tensor:
    """Return (), the mean of max(0, 1 - true) + max(0, 1 + fake) of scores."""
    return F.relu(1 - true).mean() + F.relu(1 + fake).mean()
