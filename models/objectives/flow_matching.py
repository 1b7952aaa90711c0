"""Conditional flow matching on straight paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.networks.vector_field import VectorField
from caloforge.models.objectives.objective import Loss, Meaning, Objective, ObjectiveConfig


class FlowMatchingConfig(ObjectiveConfig):
    """Settings of flow matching.

    Attributes:
        name: ``flow_matching``.
        pairing: which noise a shower's path begins at: ``independent``, or ``optimal`` for the pairs of a batch with the
            least squared distances in all. Paths then cross less and are straighter.
    """

    name: str = "flow_matching"
    pairing: Literal["independent", "optimal"] = "independent"


class FlowMatching(Objective):
    """Velocity of x_t = (1 - t) n + t x from noise n at t = 0 to the shower x at t = 1.

    The network gives what has to be added to :func:`normal_velocity`: coded showers are not far from standard
    normal numbers, and a network that had to pass on all that it is given would be wide.

    Times are drawn logit-normally (Esser et al., arXiv:2403.03206, section 3.1).
    Optimal pairs are those of the rows that one process has: with several processes they are others than with one.
    They make noise depend on the condition a little, which generation does not know of (Cheng and Schwing,
    arXiv:2503.10636): a bias that falls with the number of voxels and grows with the batch.
    Sources: Lipman et al., arXiv:2210.02747, eq. 23 with sigma_min = 0; pairs: Tong et al., arXiv:2302.00482,
    section 3.3 (batches), Pooladian et al., arXiv:2304.14772.
    """

    Config = FlowMatchingConfig
    works_on = VectorField
    gives: ClassVar[Meaning] = "velocity"

    def loss(self, network: Any, batch: Batch, draws: Draws, *, part: str = "model") -> Loss:
        """Return the mean squared error of the velocity at random times."""
        x = batch.coded
        t = torch.sigmoid(draws.normal(len(x), 1))
        noise = draws.normal(*x.shape)
        if self.config.pairing == "optimal":
            noise = nearest(noise, x)
        between = (1 - t) * noise + t * x
        velocity: Tensor = self.view(network)(between, t, batch.condition)
        value = (velocity - (x - noise)).square().mean()
        return Loss(value, estimate=lambda: between + (1 - t) * velocity, paired=True)

    def view(self, network: Any) -> Callable[..., Tensor]:
        """Return the velocity."""

        def velocity(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
            found: Tensor = normal_velocity(x, t) + network(x, t, condition)
            return found

        return velocity


def nearest(noise: Tensor, x: Tensor) -> Tensor:
    """Return the rows of noise (B, V) in the order that has the least sum of squared distances to those of x (B, V)."""
    _, order = linear_sum_assignment(torch.cdist(x, noise).square().cpu().numpy())
    return noise[torch.from_numpy(order).to(noise.device)]


def normal_velocity(x: Tensor, t: Tensor) -> Tensor:
    """Return the velocity at x (B, V) and times t (B, 1) if showers are independent standard normal numbers."""
    return (2 * t - 1) / (t**2 + (1 - t) ** 2) * x
