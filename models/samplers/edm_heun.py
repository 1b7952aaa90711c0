"""Heun's method for a denoiser, as in EDM."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pydantic import Field
from torch import Tensor

from caloforge.models.interruption import numbered_steps
from caloforge.models.samplers.denoising import (
    SIGMA_MAX,
    SIGMA_MIN,
    Denoiser,
    DenoisingSampler,
    karras_sigmas,
    split_at,
)
from caloforge.models.samplers.sampler import SteppedConfig

Slope = Callable[[Tensor, float], Tensor]


class EDMHeunConfig(SteppedConfig):
    """Settings of EDM's sampler; see the base."""

    name: str = "edm_heun"
    steps: int = Field(default=18, gt=0)


class EDMHeun(DenoisingSampler):
    """Second order, two network passes a step but one in the last, of y = shower + sigma noise down in sigma.

    Source: Karras et al., arXiv:2206.00364, algorithm 1.
    """

    Config = EDMHeunConfig
    passes = 2

    def sample(self, network: Denoiser, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Take the noise away."""
        sigmas = [*karras_sigmas(steps or self.config.steps, SIGMA_MIN, SIGMA_MAX), 0.0]
        return descend(slope_of(network, condition), sigmas[0] * noise, sigmas)


def slope_of(network: Denoiser, condition: Tensor) -> Slope:
    """Return dy/dsigma at y = shower + sigma noise, (B, V): the noise."""

    def slope(y: Tensor, sigma: float) -> Tensor:
        angle = math.atan(sigma)
        return split_at(network, math.cos(angle) * y, angle, condition)[1]

    return slope


def descend(slope: Slope, y: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Bring y from the first width of the noise to the last, with Heun's steps; a step to 0 is one of Euler's."""
    for i in numbered_steps(len(sigmas) - 1):
        now, then = sigmas[i : i + 2]
        here = slope(y, now)
        ahead = y + (then - now) * here
        y = ahead if then == 0 else y + (then - now) / 2 * (here + slope(ahead, then))
    return y
