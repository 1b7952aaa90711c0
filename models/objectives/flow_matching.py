"""Conditional flow matching on straight paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.networks.vector_field import VectorField
from caloforge.models.objectives.objective import Loss, Meaning, Objective, ObjectiveConfig


class FlowMatchingConfig(ObjectiveConfig):
    """It has no settings.

    Attributes:
        name: ``flow_matching``.
    """

    name: str = "flow_matching"


class FlowMatching(Objective):
    """Velocity of x_t = (1 - t) n + t x from noise n at t = 0 to the shower x at t = 1.

    The network gives what has to be added to :func:`normal_velocity`: coded showers are not far from standard
    normal numbers, and a network that had to pass on all that it is given would be wide.

    Times are drawn logit-normally (Esser et al., arXiv:2403.03206, section 3.1).
    Source: Lipman et al., arXiv:2210.02747, eq. 23 with sigma_min = 0.
    """

    Config = FlowMatchingConfig
    works_on = VectorField
    gives: ClassVar[Meaning] = "velocity"

    def loss(self, network: Any, batch: Batch, draws: Draws, *, part: str = "model") -> Loss:
        """Return the mean squared error of the velocity at random times."""
        x = batch.coded
        t = torch.sigmoid(draws.normal(len(x), 1))
        noise = draws.normal(*x.shape)
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


def normal_velocity(x: Tensor, t: Tensor) -> Tensor:
    """Return the velocity at x (B, V) and times t (B, 1) if showers are independent standard normal numbers."""
    return (2 * t - 1) / (t**2 + (1 - t) ** 2) * x
