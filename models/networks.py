"""Backbones: networks from network-space voxels and a condition to values per voxel.

Both take (B, V_in) voxels and a (B, C) condition and return (B, V_out, channels); any family can
use either. ``mlp`` sees the shower as one vector, ``layers`` as one token per calorimeter layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.config import Config
from caloforge.geometry import Geometry


class NetworkConfig(Config):
    """Size of a backbone.

    Attributes:
        backbone: ``mlp`` or ``layers``.
        width: hidden features (mlp) or features per token (layers).
        blocks: number of residual or transformer blocks.
        heads: attention heads, for ``layers``; they divide the width.
    """

    backbone: Literal["mlp", "layers"] = "mlp"
    width: int = Field(default=256, gt=0)
    blocks: int = Field(default=3, gt=0)
    heads: int = Field(default=4, gt=0)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.backbone == "layers" and self.width % self.heads:
            text = f"width {self.width} must be a multiple of heads, {self.heads}"
            # A plain ValueError's text would get pydantic's own prefix.
            raise PydanticCustomError("heads", "{text}", {"text": text})
        return self


class ResidualMLP(nn.Module):
    """Residual MLP whose blocks are shifted and scaled by the condition (FiLM, arXiv:1709.07871)."""

    def __init__(self, n_in: int, n_out: int, n_conditions: int, config: NetworkConfig) -> None:
        super().__init__()
        width = config.width
        self.inner = nn.Linear(n_in + n_conditions, width)
        self.condition = nn.Sequential(nn.Linear(n_conditions, width), nn.SiLU())
        self.blocks = nn.ModuleList(_MLPBlock(width) for _ in range(config.blocks))
        self.outer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_out))

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


class LayerTransformer(nn.Module):
    """Transformer with one token per calorimeter layer; each layer has its own linear embedding.

    Layers may differ in their number of voxels, and may take in or give out only some of them.
    Conditions enter by adaptive layer norm (DiT, Peebles and Xie, arXiv:2212.09748, section 3.2);
    one large token per layer as in CaloDREAM, arXiv:2405.09629, section 3.3.
    """

    in_index: Tensor
    in_valid: Tensor
    out_place: Tensor

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        channels: int,
        n_conditions: int,
        config: NetworkConfig,
    ) -> None:
        """Lay out the tokens.

        Args:
            inputs: per layer, the columns of x that it sees.
            outputs: per layer, the columns of the result that it gives; together 0 .. V_out - 1.
            channels: values per output voxel.
            n_conditions: C.
            config: size.
        """
        super().__init__()
        width, n_layers = config.width, len(inputs)
        self.channels = channels
        in_index, in_valid = _pad(inputs)
        out_index, out_valid = _pad(outputs)
        self.register_buffer("in_index", in_index, persistent=False)
        self.register_buffer("in_valid", in_valid, persistent=False)
        # Where each output column stands in the padded (layer, voxel) table.
        place = torch.empty(int(out_valid.sum()), dtype=torch.long)
        place[out_index[out_valid]] = out_valid.flatten().nonzero().squeeze(1)
        self.register_buffer("out_place", place, persistent=False)
        n_in, self.n_out = in_index.shape[1], out_index.shape[1]
        self.embed = nn.Parameter(torch.randn(n_layers, n_in, width) / math.sqrt(max(1, n_in)))
        self.position = nn.Parameter(0.02 * torch.randn(n_layers, width))
        self.condition = nn.Sequential(nn.Linear(n_conditions, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(_TransformerBlock(width, config.heads) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        self.out_weight = nn.Parameter(torch.randn(n_layers, width, self.n_out * channels) / math.sqrt(width))
        self.out_bias = nn.Parameter(torch.zeros(n_layers, 1, self.n_out * channels))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, V_in) and (B, C) to (B, V_out * channels), channels fastest."""
        tokens = x[:, self.in_index] * self.in_valid  # (B, L, n_in)
        h = torch.bmm(tokens.transpose(0, 1), self.embed.to(tokens.dtype)).transpose(0, 1)
        embedded = self.condition(condition)
        h = h + self.position + embedded[:, None]
        for block in self.blocks:
            h = block(h, embedded)
        h = self.norm(h).transpose(0, 1)  # (L, B, width)
        out = torch.baddbmm(self.out_bias.to(h.dtype), h, self.out_weight.to(h.dtype)).transpose(0, 1)
        table = out.reshape(x.shape[0], -1, self.channels)  # (B, L * n_out, channels)
        return table[:, self.out_place].flatten(1)


class _TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.zeros_(self.modulation.weight)
        # The gates start at 1, not at 0 as in DiT: with few steps a dead start costs too much.
        bias = torch.zeros(6, width)
        bias[2] = bias[5] = 1
        with torch.no_grad():
            self.modulation.bias.copy_(bias.flatten())

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition)[:, None].chunk(6, 2)
        batch, length, width = h.shape
        qkv = self.qkv(self.norms[0](h) * (1 + scale1) + shift1)
        q, k, v = qkv.reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        h = h + gate1 * self.project(attended)
        out: Tensor = h + gate2 * self.mlp(self.norms[1](h) * (1 + scale2) + shift2)
        return out


def _pad(columns: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack index lists of different length into (L, longest), with the mask of real entries."""
    longest = max(1, *(len(c) for c in columns))
    index = torch.stack([F.pad(c, (0, longest - len(c))) for c in columns])
    valid = torch.stack([torch.arange(longest) < len(c) for c in columns])
    return index, valid


def build_network(
    geometry: Geometry,
    config: NetworkConfig,
    *,
    n_conditions: int,
    channels: int = 1,
    inputs: Tensor | None = None,
    outputs: Tensor | None = None,
) -> nn.Module:
    """Return a backbone over the voxels of a geometry.

    Args:
        geometry: the mesh.
        config: which backbone and how large.
        n_conditions: C.
        channels: values per output voxel.
        inputs: voxels that are seen, rising; None means all. x has one column for each.
        outputs: voxels for which values are given, rising; None means all.

    Returns:
        A module ``net(x, condition)`` with the result (B, V_out * channels), channels fastest.
    """
    everything = torch.arange(geometry.n_voxels)
    inputs = everything if inputs is None else inputs
    outputs = everything if outputs is None else outputs
    if config.backbone == "mlp":
        return ResidualMLP(len(inputs), len(outputs) * channels, n_conditions, config)
    layer = torch.as_tensor(geometry.layer_of_voxel)
    return LayerTransformer(
        [(layer[inputs] == i).nonzero().squeeze(1) for i in range(geometry.n_layers)],
        [(layer[outputs] == i).nonzero().squeeze(1) for i in range(geometry.n_layers)],
        channels,
        n_conditions,
        config,
    )


def time_features(t: Tensor, n: int = 32) -> Tensor:
    """Return (B, n) sines and cosines of times (B, 1) in [0, 1], at rising frequencies."""
    frequency = 2 * math.pi * torch.exp(torch.linspace(0, math.log(100.0), n // 2, device=t.device))
    return torch.cat([torch.sin(t * frequency), torch.cos(t * frequency)], 1)
