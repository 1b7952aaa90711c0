"""DPM-Solver++(2M): second order with one network pass a step."""

from __future__ import annotations

import math

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


class DPMSolverConfig(DenoisingSamplerConfig):
    """Settings of DPM-Solver++; see the base."""

    name: str = "dpm_solver"
    steps: int = Field(default=10, gt=0)


class DPMSolver(DenoisingSampler):
    """Extrapolates the shower from this step and the one before, linearly in l = -log tan(angle).

    Where l is infinite, at pure noise and at the end, there is nothing to extrapolate along and the step is DDIM's.
    Source: Lu et al., arXiv:2211.01095, algorithm 2.
    """

    Config = DPMSolverConfig

    def sample(self, network: Denoiser, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Take the noise away."""
        n = steps or self.config.steps
        angles = levels(n, self.config.spacing)
        x = math.sin(angles[0]) * noise
        before, h_before = None, math.inf
        for i in numbered_steps(n):
            now, then = angles[i : i + 2]
            clean, _ = split_at(network, x, now, condition)
            h = _rise(now, then)
            shower = clean
            if before is not None and h < math.inf and h_before < math.inf:
                shower = clean + h / (2 * h_before) * (clean - before)
            x = math.sin(then) / math.sin(now) * x + math.cos(then) * -math.expm1(-h) * shower
            before, h_before = clean, h
        return x


def _rise(now: float, then: float) -> float:
    """Return by how much -log tan(angle) rises from one angle to a smaller one."""
    return math.inf if then == 0 or now == math.pi / 2 else math.log(math.tan(now) / math.tan(then))
