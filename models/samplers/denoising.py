"""What the samplers of a denoiser have in common: the levels of noise on the way down."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from caloforge.models.objectives.objective import Meaning
from caloforge.models.samplers.sampler import Sampler, SteppedConfig

Denoiser = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Spacing = Literal["even", "karras"]

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0
"""Karras et al., arXiv:2206.00364, table 1; they fit coded voxels, whose width is about 1."""


class DenoisingSamplerConfig(SteppedConfig):
    """Settings of a sampler that goes down from noise to showers.

    Attributes:
        spacing: where its steps end: ``even`` in time from 1 to 0, or ``karras``, which crowds them where there
            is little noise left.
    """

    spacing: Spacing = "even"


class DenoisingSampler(Sampler):
    """From noise to showers over falling levels of noise."""

    takes: ClassVar[Meaning] = "denoiser"


def levels(n: int, spacing: Spacing) -> list[float]:
    """Return n + 1 falling angles in rad: x = cos(angle) shower + sin(angle) noise; the last is 0."""
    if spacing == "even":
        return [(1 - i / n) * (math.pi / 2) for i in range(n + 1)]
    return [math.atan(sigma) for sigma in karras_sigmas(n, SIGMA_MIN, SIGMA_MAX)] + [0.0]


def karras_sigmas(n: int, low: float, high: float) -> list[float]:
    """Return n falling widths of the noise, from ``high`` to ``low``.

    Even in sigma^(1 / rho), Karras et al., arXiv:2206.00364, eq. 5.
    """
    if n == 1:
        return [high]
    start, end = high ** (1 / RHO), low ** (1 / RHO)
    return [(start + i / (n - 1) * (end - start)) ** RHO for i in range(n)]


def split_at(network: Denoiser, x: Tensor, angle: float, condition: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shower and the noise, (B, V) each, that the network sees in x (B, V)."""
    return network(x, torch.full_like(x[:, :1], angle / (math.pi / 2)), condition)
