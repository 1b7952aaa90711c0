"""A transformer that sees the shower as one token per calorimeter layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.networks.backbone import Backbone, BackboneConfig, Kind, Voxels


class LayersConfig(BackboneConfig):
    """Size of the transformer.

    Attributes:
        backbone: ``layers``.
        width: features per token.
        blocks: number of transformer blocks.
        heads: attention heads; they divide the width.
    """

    backbone: str = "layers"
    heads: int = Field(default=4, gt=0, le=1_024)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            text = f"width {self.width} must be a multiple of heads, {self.heads}"
            # A plain ValueError's text would get pydantic's own prefix.
            raise PydanticCustomError("heads", "{text}", {"text": text})
        return self


class LayerTransformer(Backbone):
    """Transformer with one token per calorimeter layer; each layer has its own linear embedding.

    Layers may differ in their number of voxels, and may take in or give out only some of them.
    Conditions enter by adaptive layer norm (DiT, Peebles and Xie, arXiv:2212.09748, section 3.2);
    one large token per layer as in CaloDREAM, arXiv:2405.09629, section 3.3.
    """

    Config = LayersConfig
    kinds: ClassVar[frozenset[Kind]] = frozenset({"V -> V", "part of V -> part of V"})
    linear_maps: ClassVar[dict[str, int]] = {"embed": 2, "out_weight": 1}
    """Weights that are a linear map for each layer, and which of their dimensions the features of a token are."""
    in_index: Tensor
    in_valid: Tensor
    out_place: Tensor

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        channels: int,
        n_conditions: int,
        config: LayersConfig,
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

    @classmethod
    def over(cls, voxels: Voxels, config: LayersConfig) -> Self:
        """Build it over voxels, each in the token of its layer."""
        layer, n_layers = torch.as_tensor(voxels.geometry.layer_of_voxel), voxels.geometry.n_layers
        inputs, outputs = (
            [(layer[some] == i).nonzero().squeeze(1) for i in range(n_layers)]
            for some in (voxels.inputs, voxels.outputs)
        )
        return cls(inputs, outputs, voxels.channels, voxels.n_conditions, config)

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
