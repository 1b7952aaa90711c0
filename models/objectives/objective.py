"""The contract of an objective: the loss of a batch, and what the trained network then means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import SerializeAsAny
from torch import Tensor, nn

from caloforge.config import Config
from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.configuration import choice
from caloforge.models.networks.architecture import Architecture
from caloforge.models.registries import OBJECTIVES

Meaning = Literal["map", "velocity", "denoiser"]
"""What a trained network is to a sampler:

- ``map``: (noise, condition) to showers, (B, noise_features) to (B, V);
- ``velocity``: (x, t, condition) to dx/dt on a path from noise at t = 0 to showers at t = 1;
- ``denoiser``: (x, t, condition) to (shower, noise), x = cos(pi t / 2) shower + sin(pi t / 2) noise.
"""


class ObjectiveConfig(Config):
    """Settings of an objective.

    Attributes:
        name: its name.
    """

    name: str


ObjectiveChoice = Annotated[SerializeAsAny[ObjectiveConfig], choice(OBJECTIVES, key="name")]
"""A setting that chooses an objective: ``{name: NAME, ...}``."""


@dataclass(frozen=True)
class Loss:
    """The loss of a batch.

    Attributes:
        value: (), a mean over the rows of the batch.
        estimate: returns the showers, (B, V) in network space with gradients, that the network makes of this
            batch, for extra terms in MeV; None where there are none.
        paired: whether row i of the estimate is an estimate of row i of the batch, see
            :class:`caloforge.models.batch.Decoded`.
    """

    value: Tensor
    estimate: Callable[[], Tensor] | None = None
    paired: bool = False


class Objective(ABC):
    """What a network is trained for; it has no weights of its own.

    Attributes:
        Config: class of its settings; its field ``name`` is the objective's.
        works_on: the architecture that it trains.
        gives: what the trained network is to a sampler.
        parts: optimiser steps that make up one training step, in order.
        betas: momenta of Adam.
    """

    Config: ClassVar[type[ObjectiveConfig]]
    works_on: ClassVar[type[Architecture]]
    gives: ClassVar[Meaning]
    parts: ClassVar[tuple[str, ...]] = ("model",)
    betas: ClassVar[tuple[float, float]] = (0.9, 0.99)

    def __init__(self, config: Any) -> None:
        """Take an instance of ``Config``."""
        self.config = config

    @abstractmethod
    def loss(self, network: Any, batch: Batch, draws: Draws, *, part: str = "model") -> Loss:
        """Return the loss of one part; all random numbers come from ``draws``."""

    @abstractmethod
    def view(self, network: Any) -> Callable[..., Any]:
        """Return the network as samplers use it, see :data:`Meaning`."""

    def parameters_of(self, network: Architecture, part: str) -> list[nn.Parameter]:
        """Return the parameters that the optimiser of a part moves."""
        return list(network.parameters())


@contextmanager
def held(*networks: nn.Module) -> Iterator[None]:
    """Take networks as they are: no gradients of their own parameters are worked out, nor sent to other processes."""
    for network in networks:
        network.requires_grad_(False)
    yield
    for network in networks:
        network.requires_grad_(True)
