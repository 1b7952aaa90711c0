"""Restart: the way down, and then again and again over one stretch of it with fresh noise."""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from caloforge.models.samplers.denoising import SIGMA_MAX, SIGMA_MIN, Denoiser, DenoisingSampler, karras_sigmas
from caloforge.models.samplers.edm_heun import descend, slope_of
from caloforge.models.samplers.sampler import SteppedConfig


class RestartConfig(SteppedConfig):
    """Settings of restart; see the base.

    Attributes:
        steps: of the whole way down.
        restarts: how often the stretch is gone again.
        stretch_steps: of the stretch each time.
        low: sigma at the end of the stretch; the end of a step of the whole way that is nearest.
        high: sigma to which the fresh noise leads back.
    """

    name: str = "restart"
    steps: int = Field(default=12, gt=0)
    restarts: int = Field(default=2, gt=0)
    stretch_steps: int = Field(default=4, gt=0)
    low: float = Field(default=0.1, ge=SIGMA_MIN)
    high: float = Field(default=0.6, le=SIGMA_MAX)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.low >= self.high:
            text = f"low must be less than high, got {self.low} and {self.high}"
            raise PydanticCustomError("no_stretch", "{text}", {"text": text})
        return self


class Restart(DenoisingSampler):
    """Heun's method as in EDM; fresh noise contracts the errors that it has made so far.

    Source: Xu et al., arXiv:2306.14878, algorithm 1 with one stretch.
    """

    Config = RestartConfig
    passes = 2

    def draws(self, steps: int | None) -> int:
        """Return one for each restart, none where the whole way is too coarse to have a stretch."""
        return self.config.restarts if self._end(_sigmas(steps or self.config.steps)) else 0

    def sample(self, network: Denoiser, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Take the noise away."""
        sigmas = _sigmas(steps or self.config.steps)
        end = self._end(sigmas)
        first, *fresh = noise.chunk(1 + self.draws(steps), 1)
        slope = slope_of(network, condition)
        y = descend(slope, sigmas[0] * first, sigmas[: end + 1])
        low, high = sigmas[end], self.config.high
        stretch = [*karras_sigmas(self.config.stretch_steps + 1, low, high)] if end else []
        for new in fresh:
            y = descend(slope, y + math.sqrt(high**2 - low**2) * new, stretch)
        return descend(slope, y, sigmas[end:])

    def _end(self, sigmas: list[float]) -> int:
        """Return which end of a step is that of the stretch; 0: none."""
        below = [i for i, sigma in enumerate(sigmas) if 0 < sigma < self.config.high]
        return min(below, key=lambda i: abs(math.log(sigmas[i] / self.config.low)), default=0)


def _sigmas(n: int) -> list[float]:
    return [*karras_sigmas(n, SIGMA_MIN, SIGMA_MAX), 0.0]
