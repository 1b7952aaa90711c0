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
        velocity: Tensor = network(between, t, batch.condition)
        value = (velocity - (x - noise)).square().mean()
        return Loss(value, estimate=lambda: between + (1 - t) * velocity, paired=True)

    def view(self, network: Any) -> Callable[..., Tensor]:
        """Return the network: it is the velocity."""
        return network  # type: ignore[no-any-return]
