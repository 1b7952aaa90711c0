"""A backbone that knows the time of a path from noise to showers: for flow matching and diffusion."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.configuration import by_default
from caloforge.models.networks.architecture import Architecture
from caloforge.models.networks.backbone import Kind, NetworkChoice, build_network

N_TIME_FEATURES = 32


class VectorFieldConfig(Config):
    """What the field is made of.

    Attributes:
        network: its backbone.
    """

    network: NetworkChoice = by_default(backbone="mlp")


class VectorField(Architecture):
    """A vector at each point of network space and each time: (B, V), (B, 1), (B, C) to (B, V)."""

    Config = VectorFieldConfig
    title: ClassVar[str] = "a field over network space and time"
    needs: ClassVar[Kind] = "V -> V"

    def __init__(self, geometry: Geometry, n_conditions: int, config: VectorFieldConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.noise_features = geometry.n_voxels
        self.network = build_network(geometry, config.network, n_conditions=n_conditions + N_TIME_FEATURES)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Map x (B, V) at times t (B, 1) in [0, 1], given a condition (B, C), to (B, V)."""
        out: Tensor = self.network(x, torch.cat([condition, time_features(t, N_TIME_FEATURES)], 1))
        return out


def time_features(t: Tensor, n: int = 32) -> Tensor:
    """Return (B, n) sines and cosines of times (B, 1) in [0, 1], at rising frequencies."""
    frequency = 2 * math.pi * torch.exp(torch.linspace(0, math.log(100.0), n // 2, device=t.device))
    return torch.cat([torch.sin(t * frequency), torch.cos(t * frequency)], 1)
