"""Integration of a velocity field from noise at t = 0 to showers at t = 1, in equal steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from caloforge.models.interruption import numbered_steps
from caloforge.models.objectives.objective import Meaning
from caloforge.models.samplers.sampler import Sampler, SteppedConfig

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]


class _ODE(Sampler):
    takes: ClassVar[Meaning] = "velocity"

    def sample(self, network: Velocity, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Integrate dx/dt = network(x, t, condition)."""
        n = steps or self.config.steps
        x = noise
        for i in numbered_steps(n):
            x = self.step(network, x, torch.full_like(x[:, :1], i / n), 1 / n, condition)
        return x

    @abstractmethod
    def step(self, velocity: Velocity, x: Tensor, t: Tensor, h: float, condition: Tensor) -> Tensor:
        """Return x at time t + h."""


class EulerConfig(SteppedConfig):
    """Settings of Euler's method; see the base."""

    name: str = "euler"


class Euler(_ODE):
    """First order, one network pass a step: x + h v(x, t)."""

    Config = EulerConfig

    def step(self, velocity: Velocity, x: Tensor, t: Tensor, h: float, condition: Tensor) -> Tensor:
        """Return x at time t + h."""
        return x + h * velocity(x, t, condition)


class MidpointConfig(SteppedConfig):
    """Settings of the midpoint method; see the base."""

    name: str = "midpoint"
    steps: int = Field(default=12, gt=0)


class Midpoint(_ODE):
    """Second order, two network passes a step: x + h v(x + h/2 v(x, t), t + h/2)."""

    Config = MidpointConfig
    passes = 2

    def step(self, velocity: Velocity, x: Tensor, t: Tensor, h: float, condition: Tensor) -> Tensor:
        """Return x at time t + h."""
        return x + h * velocity(x + h / 2 * velocity(x, t, condition), t + h / 2, condition)


class HeunConfig(SteppedConfig):
    """Settings of Heun's method; see the base."""

    name: str = "heun"
    steps: int = Field(default=12, gt=0)


class Heun(_ODE):
    """Second order, two network passes a step: x + h/2 (v(x, t) + v(x + h v(x, t), t + h))."""

    Config = HeunConfig
    passes = 2

    def step(self, velocity: Velocity, x: Tensor, t: Tensor, h: float, condition: Tensor) -> Tensor:
        """Return x at time t + h."""
        slope = velocity(x, t, condition)
        ahead = velocity(x + slope * h, t + h, condition)
        return x + (slope + ahead) * (h / 2)
