"""The contract that every generator family keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.preprocessing.draws import Draws


class TrainableModel(nn.Module, ABC):
    """Something the training loop can fit.

    Attributes:
        parts: optimiser steps that make up one training step, in order; each part has its own
            optimiser. Most models have one, adversarial ones take turns.
        betas: momenta of Adam.
    """

    parts: ClassVar[tuple[str, ...]] = ("model",)
    betas: ClassVar[tuple[float, float]] = (0.9, 0.99)

    @abstractmethod
    def forward(self, part: str, x: Tensor, condition: Tensor, draws: Draws) -> Tensor:
        """Return the loss of one part, a mean over the batch's rows; all random numbers come from ``draws``."""

    def parameters_of(self, part: str) -> list[nn.Parameter]:
        """Return the parameters that the optimiser of a part moves."""
        return list(self.parameters())


class VoxelModel(TrainableModel):
    """A family: a distribution of network-space voxels (B, V) given a condition (B, C).

    Sampling is a fixed function of noise, so that the same noise gives the same shower in PyTorch,
    in ONNX and on a server.

    Attributes:
        Config: class of the family's hyper-parameters.
        noise_features: standard normal numbers needed per shower.
        default_steps: steps of the sampler, None where sampling takes one pass.
    """

    Config: ClassVar[type[Config]]
    noise_features: int
    default_steps: int | None = None

    def __init__(self, geometry: Geometry, n_conditions: int, config: Any) -> None:
        """Build the networks.

        Args:
            geometry: the mesh, V voxels.
            n_conditions: number of condition features C.
            config: an instance of the family's ``Config``.
        """
        super().__init__()

    @abstractmethod
    def decode(self, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Map noise (B, noise_features) and conditions (B, C) to network-space voxels (B, V)."""
