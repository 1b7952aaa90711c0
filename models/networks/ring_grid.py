"""Layers of rings on one grid of (layer, alpha, r), whatever rings and sectors each of them has, and back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.geometry import CylindricalGeometry


class RingGrid(nn.Module):
    """Maps between voxels (B, V) and a grid (B, layers, alpha, r) that all layers share.

    Where all layers are alike it only gives them their shape. Otherwise each layer has a linear map from its rings to those
    of the grid and one back. They begin as means over the area that two rings share, and are trained, as in Amram and
    Pedro, CaloDiffusion, arXiv:2308.03876, section III B. A layer with fewer sectors than the grid repeats them, and
    takes their mean on the way back.

    Attributes:
        shape: layers L, alpha bins A and rings R of the grid.
        r_edges: (R + 1,) edges of the grid's rings in mm.
    """

    voxel: Tensor
    filled: Tensor
    place: Tensor
    weight: Tensor

    def __init__(self, geometry: CylindricalGeometry) -> None:
        super().__init__()
        layers = geometry.active_layers
        self.regular = geometry.is_regular
        self.r_edges = np.asarray(layers[0].r_edges) if self.regular else _common_edges(geometry)
        n_alpha, longest = max(layer.n_alpha for layer in layers), max(layer.n_r for layer in layers)
        self.shape = len(layers), n_alpha, len(self.r_edges) - 1
        if self.regular:
            return
        voxel = torch.zeros(len(layers), n_alpha, longest, dtype=torch.long)
        filled = torch.zeros(len(layers), n_alpha, longest)
        onto = torch.zeros(len(layers), longest, self.shape[2])
        back = torch.zeros(len(layers), self.shape[2], longest)
        for i, (layer, start) in enumerate(zip(layers, geometry.layer_slices, strict=True)):
            sector = torch.arange(n_alpha) * layer.n_alpha // n_alpha
            voxel[i, :, : layer.n_r] = start.start + sector[:, None] * layer.n_r + torch.arange(layer.n_r)
            filled[i, :, : layer.n_r] = 1
            shared = torch.as_tensor(_shared_areas(np.asarray(layer.r_edges), self.r_edges), dtype=torch.float32)
            onto[i, : layer.n_r] = shared / shared.sum(0).clamp_min(1e-12)
            back[i, :, : layer.n_r] = shared.T / shared.sum(1).clamp_min(1e-12)
        self.onto, self.back = nn.Parameter(onto), nn.Parameter(back)
        self.register_buffer("voxel", voxel, persistent=False)
        self.register_buffer("filled", filled, persistent=False)
        # Where the values of each voxel stand in the flat (layer, alpha, r) table: it is their mean.
        used = filled.flatten().nonzero()[:, 0]
        order = torch.argsort(voxel.flatten()[used], stable=True)
        places = torch.split(used[order], torch.bincount(voxel.flatten()[used]).tolist())
        place = nn.utils.rnn.pad_sequence(list(places), batch_first=True, padding_value=-1)
        weight = (place >= 0).float()
        self.register_buffer("place", place.clamp_min(0), persistent=False)
        self.register_buffer("weight", weight / weight.sum(1, keepdim=True), persistent=False)

    def to_grid(self, x: Tensor) -> Tensor:
        """Return voxels (B, V) as (B, L, A, R)."""
        if self.regular:
            return x.reshape(-1, *self.shape)
        return torch.einsum("blar,lrs->blas", x[:, self.voxel] * self.filled, self.onto.to(x.dtype))

    def to_voxels(self, grid: Tensor) -> Tensor:
        """Return values (B, C, L, A, R) of the grid as (B, V, C)."""
        if self.regular:
            return grid.flatten(2).transpose(1, 2)
        table = torch.einsum("bclas,lsr->bclar", grid, self.back.to(grid.dtype)).flatten(2)  # (B, C, L * A * r)
        return (table[:, :, self.place] * self.weight).sum(3).transpose(1, 2)


def _common_edges(geometry: CylindricalGeometry) -> NDArray[np.float64]:
    """Return edges in mm: as many rings as the finest layer has, spread evenly over the edges of all layers."""
    every = np.unique(np.concatenate([layer.r_edges for layer in geometry.active_layers]))
    n = max(layer.n_r for layer in geometry.active_layers)
    edges: NDArray[np.float64] = np.interp(np.linspace(0, len(every) - 1, n + 1), np.arange(len(every)), every)
    return edges


def _shared_areas(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area in mm^2 (up to pi) that each ring between the edges ``one`` shares with each of ``other``."""
    inner = np.maximum(one[:-1, None], other[None, :-1])
    outer = np.minimum(one[1:, None], other[None, 1:])
    areas: NDArray[np.float64] = np.where(outer > inner, outer**2 - inner**2, 0.0)
    return areas
