"""A transformer whose tokens are small blocks of layers, alpha bins and rings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.geometry import CylindricalGeometry
from caloforge.models.networks.backbone import Backbone, BackboneConfig, Kind, Voxels
from caloforge.models.networks.ring_grid import RingGrid

Length = Annotated[int, Field(gt=0, le=65_536)]


class PatchesConfig(BackboneConfig):
    """Size of the transformer.

    Attributes:
        backbone: ``patches``.
        width: features per token.
        blocks: number of transformer blocks.
        heads: attention heads; twice their number divides the width.
        patch: layers, alpha bins and rings of a token. Layers and rings are filled up to whole patches; of alpha bins a
            patch has the greatest number up to this one that divides them.
    """

    backbone: str = "patches"
    heads: int = Field(default=4, gt=0, le=1_024)
    patch: tuple[Length, Length, Length] = (3, 4, 2)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % (2 * self.heads):
            text = f"width {self.width} must be a multiple of twice the heads, {2 * self.heads}"
            raise PydanticCustomError("heads", "{text}", {"text": text})
        return self


class PatchTransformer(Backbone):
    """Diffusion transformer over patches of a cylinder, as in CaloDREAM, CaloDiT and CaloArt.

    Conditions enter by adaptive layer norms whose gates begin at zero (adaLN-zero: DiT, Peebles and Xie,
    arXiv:2212.09748, section 3.2). Where a patch is in depth and radius is learnt, and rotary (Su et al., RoFormer,
    arXiv:2104.09864); in alpha rotary numbers have whole turns, so that the last bin is beside the first and only
    differences of alpha count. Queries and keys are normalised (Henry et al., arXiv:2010.04245). Patches as in
    Favaro et al., CaloDREAM, arXiv:2405.09629, section 3.3, and CaloArt, arXiv:2605.12011.

    It commutes with rotations by whole patches until training moves ``alpha``, which begins at zero: showers that do not look
    the same from all sides need to know where alpha is.
    """

    Config = PatchesConfig
    kinds: ClassVar[frozenset[Kind]] = frozenset({"V -> V"})
    needs_rings = True
    cos: Tensor
    sin: Tensor

    def __init__(self, voxels: Voxels, config: PatchesConfig) -> None:
        super().__init__()
        assert isinstance(voxels.geometry, CylindricalGeometry)
        self.grid = RingGrid(voxels.geometry)
        layers, n_alpha, rings = self.grid.shape
        sector = max(n for n in range(1, min(config.patch[1], n_alpha) + 1) if n_alpha % n == 0)
        self.patch = min(config.patch[0], layers), sector, min(config.patch[2], rings)
        self.numbers = tuple(-(-size // part) for size, part in zip(self.grid.shape, self.patch, strict=True))
        self.padding = tuple(
            n * part - size for n, part, size in zip(self.numbers, self.patch, self.grid.shape, strict=True)
        )
        self.channels, width, size = voxels.channels, config.width, math.prod(self.patch)
        self.embed = nn.Linear(size, width)
        self.depth_and_radius = nn.Parameter(0.02 * torch.randn(self.numbers[0], 1, self.numbers[2], width))
        self.alpha = nn.Parameter(torch.zeros(1, self.numbers[1], 1, width))
        self.condition = nn.Sequential(
            nn.Linear(voxels.n_conditions, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.blocks = nn.ModuleList(_PatchBlock(width, config.heads) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(width, size * voxels.channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        angles = rotary_angles(self.numbers, width // config.heads // 2)
        self.register_buffer("cos", torch.cos(angles), persistent=False)
        self.register_buffer("sin", torch.sin(angles), persistent=False)

    @classmethod
    def over(cls, voxels: Voxels, config: PatchesConfig) -> Self:
        """Build it over the voxels of rings."""
        return cls(voxels, config)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, V) and (B, C) to (B, V * channels), channels fastest."""
        (layers, alphas, rings), (a, b, c) = self.numbers, self.patch
        grid = F.pad(self.grid.to_grid(x), (0, self.padding[2], 0, 0, 0, self.padding[0]))
        pieces = grid.reshape(-1, layers, a, alphas, b, rings, c).permute(0, 1, 3, 5, 2, 4, 6)
        embedded = self.condition(condition)
        tokens = self.embed(pieces.flatten(4)) + self.depth_and_radius + self.alpha  # (B, layers, alphas, rings, width)
        h = tokens.flatten(1, 3) + embedded[:, None]
        for block in self.blocks:
            h = block(h, embedded, self.cos, self.sin)
        scale, shift = self.modulation(embedded)[:, None].chunk(2, 2)
        out = self.outer(self.norm(h) * (1 + scale) + shift)
        out = out.reshape(-1, layers, alphas, rings, self.channels, a, b, c).permute(0, 4, 1, 5, 2, 6, 3, 7)
        out = out.reshape(-1, self.channels, layers * a, alphas * b, rings * c)
        return self.grid.to_voxels(out[:, :, : self.grid.shape[0], :, : self.grid.shape[2]]).flatten(1)


class _PatchBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.gains = nn.Parameter(torch.ones(2, width // heads))
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, condition: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition)[:, None].chunk(6, 2)
        batch, length, width = h.shape
        qkv = self.qkv(self.norms[0](h) * (1 + scale1) + shift1)
        q, k, v = qkv.reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k = (turned(_unit(some) * gain, cos, sin).to(v.dtype) for some, gain in zip((q, k), self.gains, strict=True))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        h = h + gate1 * self.project(attended)
        out: Tensor = h + gate2 * self.mlp(self.norms[1](h) * (1 + scale2) + shift2)
        return out


def _unit(x: Tensor) -> Tensor:
    """Return vectors (..., D) whose features have the mean square 1."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def rotary_angles(numbers: Sequence[int], pairs: int) -> Tensor:
    """Return the angles in rad, (tokens, pairs), by which the pairs of features of each token are turned.

    Pairs are dealt in turn to alpha, depth and radius. In alpha they make 1, 2, ... whole turns around the axis; in the others
    the angle from one patch to the next falls from 1 to 1/100 rad.

    Args:
        numbers: of patches in depth, alpha and radius.
        pairs: of features.
    """
    depth, alpha, radius = (one.flatten() for one in torch.meshgrid(*map(torch.arange, numbers), indexing="ij"))
    found = []
    for i in range(pairs):
        turn, axis = divmod(i, 3)
        if axis == 0:
            found.append(alpha * (turn % max(1, numbers[1] // 2) + 1) * (2 * math.pi / numbers[1]))
        else:
            found.append((depth if axis == 1 else radius) * 100.0 ** (-turn / max(1, pairs // 3)))
    return torch.stack(found, 1)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return vectors (..., tokens, 2 * pairs), the i-th pair (x_i, x_{i + pairs}) turned by its angle (tokens, pairs)."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
