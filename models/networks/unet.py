"""A convolutional U-Net on a cylinder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.geometry import CylindricalGeometry
from caloforge.models.networks.backbone import Backbone, BackboneConfig, Kind, Voxels
from caloforge.models.networks.ring_grid import RingGrid


class UNetConfig(BackboneConfig):
    """Size of the U-Net.

    Attributes:
        backbone: ``unet``.
        width: features of the finest level; each coarser one has twice as many.
        blocks: residual blocks of each level, on the way down and again on the way up.
        levels: how many; each has half the layers, rings and (where their number is even) alpha bins of the one before.
        attention: whether all places of the coarsest level attend to each other.
    """

    backbone: str = "unet"
    width: int = Field(default=24, gt=0, le=65_536)
    blocks: int = Field(default=1, gt=0, le=1_000)
    levels: int = Field(default=2, gt=0, le=16)
    attention: bool = False


class UNet(Backbone):
    """3-D convolutions over layer, alpha and r; circular in alpha, and told where they are in depth and radius.

    Layers that differ go through a common grid (:class:`RingGrid`). Source: Amram and Pedro, CaloDiffusion,
    arXiv:2308.03876, section III. It commutes with rotations by 2^(levels - 1) alpha bins until training moves ``alpha``,
    which begins at zero: showers that do not look the same from all sides need to know where alpha is.
    """

    Config = UNetConfig
    kinds: ClassVar[frozenset[Kind]] = frozenset({"V -> V"})
    needs_rings = True
    where: Tensor
    around: Tensor

    def __init__(self, voxels: Voxels, config: UNetConfig) -> None:
        super().__init__()
        assert isinstance(voxels.geometry, CylindricalGeometry)
        self.grid = RingGrid(voxels.geometry)
        self.register_buffer("where", _depth_and_radius(self.grid), persistent=False)
        self.register_buffer("around", _around(self.grid), persistent=False)
        widths = [config.width * 2**i for i in range(config.levels)]
        n_embedded = 2 * config.width
        self.condition = nn.Sequential(
            nn.Linear(voxels.n_conditions, n_embedded), nn.SiLU(), nn.Linear(n_embedded, n_embedded)
        )
        self.inner = CylinderConv(1 + len(self.where), config.width)
        self.alpha = nn.Parameter(torch.zeros(config.width, len(self.around)))

        def level(n_in: int, n_out: int) -> nn.ModuleList:
            return nn.ModuleList(
                _ResidualBlock(n_in if i == 0 else n_out, n_out, n_embedded) for i in range(config.blocks)
            )

        sizes = [self.grid.shape]
        self.down, self.shrink, self.grow, self.up = (nn.ModuleList() for _ in range(4))
        for fine, coarse in pairwise(widths):
            stride = _halving(sizes[-1])
            self.down.append(level(fine, fine))
            self.shrink.append(CylinderConv(fine, coarse, stride=stride))
            self.grow.append(_Growth(sizes[-1], stride, coarse, fine))
            self.up.append(level(2 * fine, fine))
            sizes.append((-(-sizes[-1][0] // stride[0]), sizes[-1][1] // stride[1], -(-sizes[-1][2] // stride[2])))
        self.middle = level(widths[-1], widths[-1])
        self.attention = SelfAttention(widths[-1]) if config.attention else nn.Identity()
        self.norm = nn.GroupNorm(math.gcd(8, config.width), config.width)
        self.outer = nn.Conv3d(config.width, voxels.channels, 1)

    @classmethod
    def over(cls, voxels: Voxels, config: UNetConfig) -> Self:
        """Build it over the voxels of rings."""
        return cls(voxels, config)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, V) and (B, C) to (B, V * channels), channels fastest."""
        embedded = self.condition(condition)
        grid = self.grid.to_grid(x)[:, None]  # (B, 1, L, A, R)
        h = self.inner(torch.cat([grid, self.where.to(x.dtype).expand(x.shape[0], -1, -1, -1, -1)], 1))
        h = h + torch.einsum("wf,fa->wa", self.alpha, self.around).to(h.dtype)[None, :, None, :, None]
        passed = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in _all(blocks):
                h = block(h, embedded)
            passed.append(h)
            h = shrink(h)
        for block in _all(self.middle):
            h = block(h, embedded)
        h = self.attention(h)
        for blocks, grow in zip(reversed(_all(self.up)), reversed(_all(self.grow)), strict=True):
            h = torch.cat([passed.pop(), grow(h)], 1)
            for block in _all(blocks):
                h = block(h, embedded)
        return self.grid.to_voxels(self.outer(F.silu(self.norm(h)))).flatten(1)


class CylinderConv(nn.Module):
    """A 3 x 3 x 3 convolution of (B, C, L, A, R), circular in alpha.

    There is nothing, zeros, before the first and after the last layer, and on both sides of the rings.
    """

    def __init__(self, n_in: int, n_out: int, *, stride: tuple[int, int, int] = (1, 1, 1)) -> None:
        super().__init__()
        self.conv = nn.Conv3d(n_in, n_out, 3, stride=stride, padding=(1, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n_out, L', A', R')."""
        out: Tensor = self.conv(torch.cat([x[:, :, :, -1:], x, x[:, :, :, :1]], 3))
        return out


class _ResidualBlock(nn.Module):
    """Two convolutions; the condition shifts and scales between them (FiLM, arXiv:1709.07871)."""

    def __init__(self, n_in: int, n_out: int, n_embedded: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, n), n) for n in (n_in, n_out))
        self.convs = nn.ModuleList([CylinderConv(n_in, n_out), CylinderConv(n_out, n_out)])
        self.modulation = nn.Linear(n_embedded, 2 * n_out)
        self.shortcut = nn.Conv3d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(F.silu(condition))[:, :, None, None, None].chunk(2, 1)
        h = self.convs[0](F.silu(self.norms[0](x)))
        h = self.convs[1](F.silu(self.norms[1](h) * (1 + scale) + shift))
        out: Tensor = self.shortcut(x) + h
        return out


class _Growth(nn.Module):
    """Back to a finer level: each place takes the value of the coarser one that it lies in, then a convolution."""

    def __init__(self, size: Sequence[int], stride: Sequence[int], n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = CylinderConv(n_in, n_out)
        for axis, (n, step) in enumerate(zip(size, stride, strict=True)):
            self.register_buffer(f"source_{axis}", torch.arange(n) // step, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        for axis in range(3):
            x = x.index_select(2 + axis, self.get_buffer(f"source_{axis}"))
        out: Tensor = self.conv(x)
        return out


class SelfAttention(nn.Module):
    """Every place sees every other: x + gain * W_o softmax(f(x)^T g(x)) h(x), with a gain that begins at zero.

    Source: Zhang et al., SAGAN, arXiv:1805.08318, equations 1 to 3.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // 8)
        self.query, self.key = nn.Conv3d(width, inner, 1), nn.Conv3d(width, inner, 1)
        self.value, self.project = nn.Conv3d(width, max(1, width // 2), 1), nn.Conv3d(max(1, width // 2), width, 1)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, L, A, R) of the same shape."""
        q, k, v = (layer(x).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2)
        out: Tensor = x + self.gain * self.project(attended.reshape(x.shape[0], -1, *x.shape[2:]))
        return out


def _all(modules: nn.Module) -> list[nn.Module]:
    return list(modules.children())


def _halving(size: Sequence[int]) -> tuple[int, int, int]:
    """Return the strides to the next level: an odd number of alpha bins cannot be halved, nor can a single layer or ring."""
    layers, alphas, rings = size
    return 2 if layers > 1 else 1, 2 if alphas % 2 == 0 else 1, 2 if rings > 1 else 1


def _depth_and_radius(grid: RingGrid) -> Tensor:
    """Return (2, L, A, R): depth and radius of each place, from -1 to 1."""
    layers = grid.shape[0]
    middle = torch.as_tensor((grid.r_edges[1:] + grid.r_edges[:-1]) / 2 / grid.r_edges[-1], dtype=torch.float32)
    depth = (torch.arange(layers) + 0.5) / layers
    both = [depth[:, None, None].expand(grid.shape), middle.expand(grid.shape)]
    return 2 * torch.stack(both) - 1


def _around(grid: RingGrid) -> Tensor:
    """Return (2, A): cosine and sine of alpha."""
    n = grid.shape[1]
    alpha = (torch.arange(n) + 0.5) / n * 2 * math.pi - math.pi
    return torch.stack([torch.cos(alpha), torch.sin(alpha)])
