"""Flow matching against showers whose velocity is known."""

from __future__ import annotations

import numpy as np
import torch
from exact_gaussian import MEAN, STD, at_the_optimum, check_optimum, coded_batch, gaussian_velocity, seeded

from caloforge.models.objectives.flow_matching import FlowMatching, FlowMatchingConfig, normal_velocity
from caloforge.models.samplers.ode import Heun, HeunConfig

OBJECTIVE = FlowMatching(FlowMatchingConfig())


def network_of(velocity):
    """Return the network that makes this velocity."""
    return lambda x, t, condition=None: velocity(x, t) - normal_velocity(x, t)


def test_the_exact_velocity_has_the_least_loss_and_no_gradient() -> None:
    """Shower - noise and x_t are jointly normal; their conditional variance is STD^2 / Var(x_t)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)  # of log t / (1 - t), which is N(0, 1)
    t = 1 / (1 + np.exp(-nodes))
    least = np.average(STD**2 / ((1 - t) ** 2 + (t * STD) ** 2), weights=weights)
    check_optimum(at_the_optimum(OBJECTIVE, network_of(gaussian_velocity)), least)


def test_where_the_shower_is_known_there_is_no_loss_and_the_estimate_is_the_shower() -> None:
    x = torch.full((200, 2), MEAN, dtype=torch.float64)
    loss = OBJECTIVE.loss(network_of(lambda between, t: (MEAN - between) / (1 - t)), coded_batch(x), seeded(0))
    assert loss.value < 1e-9
    assert loss.paired
    assert torch.allclose(loss.estimate(), x)


def test_a_network_that_says_nothing_makes_standard_normal_showers() -> None:
    """The velocity of N(0, 1) to N(0, 1) on straight paths leads back to where it started."""
    noise = seeded(0).normal(20000, 2, dtype=torch.float64)
    view = OBJECTIVE.view(lambda x, t, condition: torch.zeros_like(x))
    x = Heun(HeunConfig()).sample(view, noise, torch.zeros(len(noise), 0), 40)
    assert torch.allclose(x, noise, atol=0.01)
    half = torch.full((len(noise), 1), 0.5, dtype=torch.float64)
    assert torch.equal(view(noise, half, half), torch.zeros_like(noise))
