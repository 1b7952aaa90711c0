"""Denoising diffusion against showers of which the best denoiser is known, for each target."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from exact_gaussian import MEAN, STD, at_the_optimum, check_optimum, coded_batch, gaussian_target, seeded

from caloforge.models.objectives.denoising import Denoising, DenoisingConfig


@pytest.mark.parametrize("target", ["v", "eps", "x"])
@pytest.mark.parametrize("times", [10, 1000])
def test_the_exact_denoiser_has_the_least_loss_and_no_gradient(target: str, times: int) -> None:
    """Target and x_t are jointly normal: the loss is the target's variance that is left when x_t is known."""
    angle = np.arange(1, times + 1) / times * math.pi / 2
    a, s = np.cos(angle), np.sin(angle)
    left = {"v": STD**2, "eps": (a * STD) ** 2, "x": (s * STD) ** 2}[target] / ((a * STD) ** 2 + s**2)
    objective = Denoising(DenoisingConfig(target=target, times=times))
    check_optimum(at_the_optimum(objective, lambda x, t: gaussian_target(target, x, t)), left.mean())


@pytest.mark.parametrize("target", ["v", "eps", "x"])
def test_where_the_shower_is_known_there_is_no_loss_and_the_estimate_is_the_shower(target: str) -> None:
    def exact(x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        a, s = torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)
        noise = (x - a * MEAN) / s
        return {"v": a * noise - s * MEAN, "eps": noise, "x": torch.full_like(x, MEAN)}[target]

    objective = Denoising(DenoisingConfig(target=target, times=8))
    x = torch.full((200, 2), MEAN, dtype=torch.float64)
    loss = objective.loss(exact, coded_batch(x), seeded(0))
    assert loss.value < 1e-9
    assert loss.paired
    # At the last level there is nothing of the shower in the noisy one: the noise does not tell it.
    known = (loss.estimate() - x).abs().amax(1) < 1e-4
    assert known.float().mean() > 0.8
    if target != "eps":
        assert known.all()
