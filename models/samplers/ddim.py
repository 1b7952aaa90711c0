"""Deterministic denoising in any number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from caloforge.models.interruption import numbered_steps
from caloforge.models.objectives.objective import Meaning
from caloforge.models.samplers.sampler import Sampler, SteppedConfig


class DDIMConfig(SteppedConfig):
    """Settings of DDIM; see the base."""

    name: str = "ddim"


class DDIM(Sampler):
    """From t = 1 to 0; each step is a rotation in the plane of shower and noise.

    Source: Song et al., DDIM, arXiv:2010.02502, eq. 12 with sigma = 0; on the cosine schedule Salimans and
    Ho, arXiv:2202.00512, appendix D.
    """

    Config = DDIMConfig
    takes: ClassVar[Meaning] = "denoiser"

    def sample(
        self,
        network: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
        noise: Tensor,
        condition: Tensor,
        steps: int | None,
    ) -> Tensor:
        """Take the noise away."""
        n = steps or self.config.steps
        x = noise
        for i in numbered_steps(n):
            clean, dirt = network(x, torch.full_like(x[:, :1], 1 - i / n), condition)
            then = (1 - (i + 1) / n) * math.pi / 2
            x = math.cos(then) * clean + math.sin(then) * dirt
        return x
