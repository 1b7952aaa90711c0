"""An MLP in which what is given for a voxel depends on the voxels before it alone."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zuko.nn import MaskedLinear

from caloforge.models.networks.backbone import Backbone, BackboneConfig, Kind, Voxels


class MaskedMLPConfig(BackboneConfig):
    """Size of the MLP.

    Attributes:
        backbone: ``masked_mlp``.
        width: hidden features.
        blocks: number of residual blocks.
    """

    backbone: str = "masked_mlp"


class MaskedMLP(Backbone):
    """Hidden feature i sees the first m_i voxels, and the values of voxel j see features with m_i <= j.

    The condition shifts and scales all features. Source: Germain et al., MADE, arXiv:1502.03509, section 4, with m_i spread
    evenly from 0 to V - 1, not drawn.
    """

    Config = MaskedMLPConfig
    kinds: ClassVar[frozenset[Kind]] = frozenset({"each of V from those before"})

    def __init__(self, n_voxels: int, channels: int, n_conditions: int, config: MaskedMLPConfig) -> None:
        super().__init__()
        width = config.width
        seen = torch.linspace(0, n_voxels - 1, width).round().long()  # m
        self.condition = nn.Sequential(nn.Linear(n_conditions, width), nn.SiLU())
        self.inner = MaskedLinear(seen[:, None] > torch.arange(n_voxels))
        self.shift = nn.Linear(n_conditions, width)
        self.blocks = nn.ModuleList(_MaskedBlock(seen) for _ in range(config.blocks))
        self.outer = MaskedLinear(torch.arange(n_voxels).repeat_interleave(channels)[:, None] >= seen)

    @classmethod
    def over(cls, voxels: Voxels, config: MaskedMLPConfig) -> Self:
        """Build it over voxels in their order."""
        return cls(len(voxels.outputs), voxels.channels, voxels.n_conditions, config)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, V) and (B, C) to (B, V * channels), channels fastest."""
        embedded = self.condition(condition)
        h = self.inner(x) + self.shift(condition)
        for block in self.blocks:
            h = block(h, embedded)
        out: Tensor = self.outer(F.silu(h))
        return out


class _MaskedBlock(nn.Module):
    def __init__(self, seen: Tensor) -> None:
        super().__init__()
        self.modulation = nn.Linear(len(seen), 2 * len(seen))
        self.layers = nn.ModuleList(MaskedLinear(seen[:, None] >= seen) for _ in range(2))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition).chunk(2, 1)
        out: Tensor = h + self.layers[1](F.silu(self.layers[0](F.silu(h * (1 + scale) + shift))))
        return out
