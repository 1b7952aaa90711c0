"""Where the axis of a shower is expected, in samples that do not look the same from all sides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.geometry import Geometry

RIDGE = 1e-3
"""Of the least squares, relative to the weight of the showers."""


class ExpectedAxis(nn.Module):
    """Mean centre of energy of each layer, linear in the conditions.

    Attributes:
        directed: 1 where the axis means something; 0 in symmetric samples, in which all directions are alike.
        slope: (L, F + 1, 2) coefficients, with the constant first, mm.
    """

    directed: Tensor
    slope: Tensor
    x: Tensor
    y: Tensor

    def __init__(self, geometry: Geometry, n_conditions: int) -> None:
        """Start with an axis in the middle of the mesh."""
        super().__init__()
        self.register_buffer("directed", torch.tensor(0.0))
        self.register_buffer("slope", torch.zeros(geometry.n_layers, n_conditions + 1, 2))
        self.register_buffer("x", torch.as_tensor(geometry.eta_of_voxel).float(), persistent=False)
        self.register_buffer("y", torch.as_tensor(geometry.phi_of_voxel).float(), persistent=False)
        self._layers = geometry.layer_slices

    def sums(self, conditions: Tensor, voxels: Tensor) -> Tensor:
        """Return the sums of a least-squares fit, (L, F + 1, F + 3): add them over chunks, then :meth:`solve`.

        Showers count with the root of their energy in the layer.

        Args:
            conditions: (B, F) encoded.
            voxels: (B, V) MeV.
        """
        design = torch.cat([torch.ones_like(conditions[:, :1]), conditions], 1).double()
        found = []
        for place in self._layers:
            energy = voxels[:, place].double()
            total = energy.sum(1).clamp_min(1e-9)
            centre = torch.stack([(energy * at[place]).sum(1) / total for at in (self.x, self.y)], 1)
            weighted = design * torch.sqrt(total)[:, None]
            found.append(weighted.T @ torch.cat([design, centre], 1))
        return torch.stack(found)

    def solve(self, sums: Tensor) -> None:
        """Set the coefficients."""
        n = sums.shape[1]
        matrix, right = sums[:, :, :n], sums[:, :, n:]
        ridge = RIDGE * matrix[:, :1, :1] * torch.eye(n, dtype=sums.dtype) + 1e-9 * torch.eye(n, dtype=sums.dtype)
        self.slope.copy_(torch.linalg.solve(matrix + ridge, right))
        self.directed.fill_(1.0)

    def forward(self, conditions: Tensor) -> Tensor:
        """Return (L, B, 3): ``directed``, then x and y of the axis in mm, for encoded conditions (B, F)."""
        design = torch.cat([torch.ones_like(conditions[:, :1]), conditions], 1)
        axis = torch.matmul(design, self.slope)  # (L, B, 2)
        return torch.cat([self.directed.expand(*axis.shape[:2], 1), axis], 2)
