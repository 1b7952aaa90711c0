"""The centre that a particle's direction makes expect, as an extra term of the loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caloforge.geometry import Geometry
from caloforge.models.batch import Batch, Decoded
from caloforge.models.losses.distance import squared_distance
from caloforge.models.losses.shower_centre import centre

_FORWARD = 0.7
"""From this median of abs(cos(theta)) on the detector stands across the beam, below along it."""


def expected_centre(batch: Batch, decoded: Decoded) -> Tensor:
    """Return (), the mean squared distance between residuals of generated and of true centres, mm^2.

    A residual is what lies between a shower's centre and the one that its direction makes expect, see :func:`expect`.
    Of independent draws residuals are compared and not centres, so that other directions in a batch do not matter.
    """
    line = fit(batch)
    ours, theirs = (
        centre(voxels, batch.geometry) - expect(line, directions(batch), depth(voxels, batch.geometry))
        for voxels in (decoded.showers, batch.voxels)
    )
    return squared_distance(ours, theirs, paired=decoded.paired)


def expect(line: Tensor, u: Tensor, z: Tensor) -> Tensor:
    """Return the expected centres m + (a + b z) u, (B, 2) mm.

    A particle from the origin meets a plane at distance d at d u, u = tan(theta) (cos(phi), sin(phi)). With the mean depth
    z of its energy b is 1 where layers stand across the beam, and 0 where the mesh follows the particle's own axis.

    Args:
        line: (4,) a, b and m.
        u: (B, 2) impact points at distance 1.
        z: (B, 1) mean depths.
    """
    return line[2:] + (line[0] + line[1] * z) * u


def fit(batch: Batch) -> Tensor:
    """Return a, b and m that fit the true showers of a batch best, (4,): nobody says where the mesh stands."""
    voxels = batch.voxels.double()
    u, z = directions(batch).double(), depth(voxels, batch.geometry)
    at = centre(voxels, batch.geometry)
    columns = torch.stack([u, z * u, *torch.eye(2).to(u).unsqueeze(1).expand(2, len(u), 2)], 2)  # (B, 2, 4)
    matrix, values = columns.flatten(0, 1), at.flatten()
    # A little of each unknown is held at 0: directions or depths that are all the same say nothing of it.
    normal = matrix.T @ matrix
    held = 1e-6 * normal.diagonal().clamp_min(1e-6)
    line: Tensor = torch.linalg.solve(normal + torch.diag(held), matrix.T @ values)
    return line.to(batch.voxels.dtype)


def directions(batch: Batch) -> Tensor:
    """Return the impact point at distance 1, (B, 2), or along the beam 1 / tan(theta); 0 without both angles."""
    given = dict(zip(batch.condition_names, batch.raw_conditions.unbind(1), strict=True))
    if "theta" not in given or "phi" not in given:
        return torch.zeros(len(batch), 2, dtype=batch.voxels.dtype, device=batch.voxels.device)
    theta, phi = (given[name].to(batch.voxels.dtype) for name in ("theta", "phi"))
    if theta.cos().abs().median() > _FORWARD:
        return theta.tan()[:, None] * torch.stack([phi.cos(), phi.sin()], 1)
    along = 1 / theta.clamp(1e-6, np.pi - 1e-6).tan()
    return torch.stack([along, torch.zeros_like(along)], 1)


def depth(voxels: Tensor, geometry: Geometry) -> Tensor:
    """Return the energy-weighted mean depth of each shower, (B, 1): in mm, or in layers where depths are not known."""
    of_layer = np.asarray(geometry.layer_depths or range(geometry.n_layers), dtype=np.float64)
    z = torch.as_tensor(of_layer[geometry.layer_of_voxel], dtype=voxels.dtype, device=voxels.device)
    return (voxels @ z[:, None]) / voxels.sum(1, keepdim=True).clamp_min(1e-6)
