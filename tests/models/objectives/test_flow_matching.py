"""Flow matching against showers whose velocity is known."""

from __future__ import annotations

import numpy as np
import torch
from exact_gaussian import MEAN, STD, at_the_optimum, check_optimum, coded_batch, gaussian_velocity, seeded

from caloforge.models.objectives.flow_matching import FlowMatching, FlowMatchingConfig

OBJECTIVE = FlowMatching(FlowMatchingConfig())


def test_the_exact_velocity_has_the_least_loss_and_no_gradient() -> None:
    """Shower - noise and x_t are jointly normal; their conditional variance is STD^2 / Var(x_t)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)  # of log t / (1 - t), which is N(0, 1)
    t = 1 / (1 + np.exp(-nodes))
    least = np.average(STD**2 / ((1 - t) ** 2 + (t * STD) ** 2), weights=weights)
    check_optimum(at_the_optimum(OBJECTIVE, gaussian_velocity), least)


def test_where_the_shower_is_known_there_is_no_loss_and_the_estimate_is_the_shower() -> None:
    x = torch.full((200, 2), MEAN, dtype=torch.float64)
    loss = OBJECTIVE.loss(lambda between, t, condition: (MEAN - between) / (1 - t), coded_batch(x), seeded(0))
    assert loss.value < 1e-9
    assert loss.paired
    assert torch.allclose(loss.estimate(), x)
