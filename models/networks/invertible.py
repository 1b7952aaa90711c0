"""The contract of invertible maps between showers and normal noise."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from caloforge.models.networks.architecture import Architecture


class Invertible(Architecture):
    """A density of showers given a condition, and how to draw from it."""

    @abstractmethod
    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (B,) -log p(x | condition) of showers (B, V)."""

    @abstractmethod
    def draw(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return showers (B, V) of noise (B, V)."""
