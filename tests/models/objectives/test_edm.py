"""EDM against showers of which the best denoiser is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from exact_gaussian import MEAN, STD, at_the_optimum, check_optimum, coded_batch, gaussian_target, seeded
from torch import Tensor

from caloforge.models.objectives.denoising import Denoising, DenoisingConfig
from caloforge.models.objectives.edm import EDM, EDMConfig


def network_of(denoised, sigma_data: float):
    """Return the F that makes a denoised shower of y = shower + sigma noise, by the formulas of the paper."""

    def network(scaled: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        sigma = torch.tan(t * math.pi / 2)
        y = scaled * torch.sqrt(sigma**2 + sigma_data**2)
        skip = sigma_data**2 / (sigma**2 + sigma_data**2)
        out = sigma * sigma_data / torch.sqrt(sigma**2 + sigma_data**2)
        return (denoised(y, sigma) - skip * y) / out

    return network


def exact(y: Tensor, sigma: Tensor) -> Tensor:
    return MEAN + STD**2 / (STD**2 + sigma**2) * (y - MEAN)


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_the_exact_denoiser_has_the_least_loss_and_no_gradient(sigma_data: float) -> None:
    """What is left is the variance of the shower when y is known, with the weight of the paper."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    sigma = np.exp(-0.5 + 1.2 * nodes)
    left = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2 * (STD * sigma) ** 2 / (STD**2 + sigma**2)
    objective = EDM(EDMConfig(sigma_data=sigma_data))
    found = at_the_optimum(objective, network_of(exact, sigma_data))
    check_optimum(found, np.average(left, weights=weights))


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_a_sampler_sees_shower_and_noise(sigma_data: float) -> None:
    view = EDM(EDMConfig(sigma_data=sigma_data)).view(network_of(exact, sigma_data))
    x = seeded(0).normal(100, 2, dtype=torch.float64)
    for time in (0.01, 0.5, 0.99):
        t = torch.full((100, 1), time, dtype=torch.float64)
        clean, noise = view(x, t, t)
        assert torch.allclose(clean, gaussian_target("x", x, t), atol=1e-8)
        assert torch.allclose(noise, gaussian_target("eps", x, t), atol=1e-8)


def test_with_showers_of_width_one_it_is_the_network_of_v_upside_down() -> None:
    x, t = seeded(1).normal(50, 2), torch.rand(50, 1, generator=torch.Generator().manual_seed(0))
    edm = EDM(EDMConfig()).view(lambda x, t, condition: -torch.sin(3 * x + t))
    v = Denoising(DenoisingConfig(target="v")).view(lambda x, t, condition: torch.sin(3 * x + t))
    for ours, theirs in zip(edm(x, t, t), v(x, t, t), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)


def test_pure_noise_and_no_noise_are_finite() -> None:
    view = EDM(EDMConfig(sigma_data=0.5)).view(lambda x, t, condition: 0.3 * x)
    for time in (0.0, 1.0):
        t = torch.full((5, 1), time)
        clean, noise = view(torch.ones(5, 2), t, t)
        assert clean.isfinite().all()
        assert noise.isfinite().all()


def test_where_the_shower_is_known_there_is_no_loss_and_the_estimate_is_the_shower() -> None:
    x = torch.full((200, 2), MEAN, dtype=torch.float64)
    network = network_of(lambda y, sigma: torch.full_like(y, MEAN), 1.0)
    loss = EDM(EDMConfig()).loss(network, coded_batch(x), seeded(0))
    assert loss.value < 1e-9
    assert loss.paired
    assert torch.allclose(loss.estimate(), x)
