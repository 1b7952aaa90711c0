"""The contract of a sampler: how noise becomes a shower in network space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import Field, SerializeAsAny
from torch import Tensor

from caloforge.config import Config
from caloforge.models.configuration import choice
from caloforge.models.objectives.objective import Meaning
from caloforge.models.registries import SAMPLERS


class SamplerConfig(Config):
    """Settings of a sampler.

    Attributes:
        name: its name.
    """

    name: str


SamplerChoice = Annotated[SerializeAsAny[SamplerConfig], choice(SAMPLERS, key="name")]
"""A setting that chooses a sampler: ``{name: NAME, ...}``."""


class SteppedConfig(SamplerConfig):
    """Settings of a sampler that takes steps.

    Attributes:
        steps: steps when none are asked for.
    """

    steps: int = Field(default=25, gt=0)


class Sampler(ABC):
    """A fixed function of noise; it has no weights and draws no numbers of its own.

    One that adds fresh noise on the way is given all of it at the start: a shower then is a function of its seed and
    number in any batch, in ONNX too, which has no generator of random numbers like ours.

    Attributes:
        Config: class of its settings; its field ``name`` is the sampler's.
        takes: what the network must be.
        passes: of the network in one step.
        default_steps: steps when none are asked for; None where it takes one pass.
    """

    Config: ClassVar[type[SamplerConfig]]
    takes: ClassVar[Meaning]
    passes: ClassVar[int] = 1

    def __init__(self, config: Any) -> None:
        """Take an instance of ``Config``."""
        self.config = config
        self.default_steps: int | None = getattr(config, "steps", None)

    def draws(self, steps: int | None) -> int:
        """Return how often it draws noise anew after the first time; a deterministic sampler never does."""
        return 0

    @abstractmethod
    def sample(self, network: Callable[..., Any], noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Map noise and conditions (B, C) to network-space showers (B, V).

        Args:
            network: as :meth:`caloforge.models.objectives.objective.Objective.view` gives it.
            noise: standard normal numbers, (B, noise_features) of the architecture, and as many again for each of
                the :meth:`draws`.
            condition: encoded conditions.
            steps: None for ``default_steps``.
        """
