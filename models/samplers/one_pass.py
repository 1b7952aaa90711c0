"""One pass of a network that maps noise to showers."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from caloforge.models.objectives.objective import Meaning
from caloforge.models.samplers.sampler import Sampler, SamplerConfig


class OnePassConfig(SamplerConfig):
    """It has no settings of its own; see the base."""

    name: str = "one_pass"


class OnePass(Sampler):
    """The network's own map; there are no steps to choose."""

    Config = OnePassConfig
    takes: ClassVar[Meaning] = "map"

    def sample(
        self, network: Callable[[Tensor, Tensor], Tensor], noise: Tensor, condition: Tensor, steps: int | None
    ) -> Tensor:
        """Map noise to showers."""
        return network(noise, condition)
