"""Flow matching against showers whose velocity is known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from exact_gaussian import MEAN, STD, at_the_optimum, check_optimum, coded_batch, gaussian_velocity, seeded

from caloforge.models.objectives.flow_matching import FlowMatching, FlowMatchingConfig, nearest, normal_velocity
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


def test_optimal_pairs_are_the_same_noise_with_the_least_distance() -> None:
    draws = seeded(0)
    x, noise = 3 * draws.normal(6, 2), draws.normal(6, 2)
    paired = nearest(noise, x)
    assert sorted(paired.tolist()) == sorted(noise.tolist())
    distances = [(noise[list(order)] - x).square().sum().item() for order in permutations(range(6))]
    assert (paired - x).square().sum().item() == pytest.approx(min(distances))


def test_optimal_pairs_make_straighter_paths() -> None:
    """Noise and showers of one voxel pair in their order: x = MEAN + STD noise, and the velocity is known from x_t."""
    objective = FlowMatching(FlowMatchingConfig(pairing="optimal"))

    def straight(x, t):
        noise = (x - t * MEAN) / (1 - t + t * STD)
        return MEAN + (STD - 1) * noise

    x = MEAN + STD * seeded(1).normal(200, 1)
    network = network_of(straight)
    losses = {name: one.loss(network, coded_batch(x), seeded(2)).value.item() for name, one in
              (("optimal", objective), ("independent", OBJECTIVE))}  # fmt: skip
    # What is left are the differences of the quantiles of two samples of 200; independent pairs have their variances.
    assert losses["optimal"] < 0.1 * losses["independent"]
