"""A residual MLP that sees the shower as one vector."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from caloforge.models.networks.backbone import Backbone, BackboneConfig, Kind, Voxels


class MLPConfig(BackboneConfig):
    """Size of the MLP.

    Attributes:
        backbone: ``mlp``.
        width: hidden features.
        blocks: number of residual blocks.
    """

    backbone: str = "mlp"


class ResidualMLP(Backbone):
    """Residual MLP whose blocks are shifted and scaled by the condition (FiLM, arXiv:1709.07871)."""

    Config = MLPConfig
    kinds: ClassVar[frozenset[Kind]] = frozenset({"V -> V", "part of V -> part of V"})

    def __init__(self, n_in: int, n_out: int, n_conditions: int, config: BackboneConfig) -> None:
        super().__init__()
        width = config.width
        self.inner = nn.Linear(n_in + n_conditions, width)
        self.condition = nn.Sequential(nn.Linear(n_conditions, width), nn.SiLU())
        self.blocks = nn.ModuleList(_MLPBlock(width) for _ in range(config.blocks))
        self.outer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_out))

    @classmethod
    def over(cls, voxels: Voxels, config: BackboneConfig) -> Self:
        """Build it over voxels."""
        return cls(len(voxels.inputs), len(voxels.outputs) * voxels.channels, voxels.n_conditions, config)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, n_in) and (B, C) to (B, n_out)."""
        embedded = self.condition(condition)
        h = self.inner(torch.cat([x, condition], 1))
        for block in self.blocks:
            h = block(h, embedded)
        out: Tensor = self.outer(h)
        return out


class _MLPBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition).chunk(2, 1)
        out: Tensor = h + self.layers(self.norm(h) * (1 + scale) + shift)
        return out
