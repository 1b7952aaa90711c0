"""DDIM: denoising in any number of steps, with as much fresh noise as is wanted."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from caloforge.models.interruption import numbered_steps
from caloforge.models.samplers.denoising import (
    Denoiser,
    DenoisingSampler,
    DenoisingSamplerConfig,
    levels,
    split_at,
)


class DDIMConfig(DenoisingSamplerConfig):
    """Settings of DDIM; see the base.

    Attributes:
        eta: share of fresh noise in each step: 0 is deterministic, 1 is DDPM.
    """

    name: str = "ddim"
    eta: float = Field(default=0.0, ge=0, le=1)


class DDIM(DenoisingSampler):
    """First order, one network pass a step; each is a rotation in the plane of shower and noise.

    Source: Song et al., DDIM, arXiv:2010.02502, eqs. 12 and 16; on the cosine schedule with eta = 0 Salimans and
    Ho, arXiv:2202.00512, appendix D.
    """

    Config: ClassVar[type[DenoisingSamplerConfig]] = DDIMConfig

    @property
    def eta(self) -> float:
        """Share of fresh noise."""
        return float(self.config.eta)

    def draws(self, steps: int | None) -> int:
        """Return one for each step but the last, none with eta = 0."""
        return (steps or self.config.steps) - 1 if self.eta else 0

    def sample(self, network: Denoiser, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Take the noise away."""
        n = steps or self.config.steps
        first, *fresh = noise.chunk(1 + self.draws(n), 1)
        angles = levels(n, self.config.spacing)
        x = math.sin(angles[0]) * first
        for i in numbered_steps(n):
            clean, dirt = split_at(network, x, angles[i], condition)
            new = self.eta * _fresh(angles[i], angles[i + 1])
            x = math.cos(angles[i + 1]) * clean + math.sqrt(math.sin(angles[i + 1]) ** 2 - new**2) * dirt
            if new:
                x = x + new * fresh[i]
        return x


def _fresh(now: float, then: float) -> float:
    """Return the width of the fresh noise of DDPM, the square root of its posterior variance; 0 in the last step."""
    return math.sin(then) / math.sin(now) * math.sqrt(1 - (math.cos(now) / math.cos(then)) ** 2)
