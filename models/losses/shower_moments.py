"""Lateral and longitudinal moments of the showers as an extra term of the loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caloforge.geometry import Geometry
from caloforge.models.batch import Batch, Decoded
from caloforge.models.losses.distance import squared_distance


def shower_moments(batch: Batch, decoded: Decoded) -> Tensor:
    """Return (), the mean squared distance between moments of generated and of true showers, without unit.

    A family that draws layer energies first has the longitudinal moments of the batch: there only the lateral
    ones have a gradient.
    """
    ours, theirs = (moments(voxels, batch.geometry) for voxels in (decoded.showers, batch.voxels))
    return squared_distance(ours, theirs, paired=decoded.paired)


def moments(voxels: Tensor, geometry: Geometry) -> Tensor:
    """Return first and second energy-weighted moments of radius and depth of each shower, (B, 4).

    They are <r>, <r^2>, <z>, <z^2> with <q> = sum_i E_i q_i / sum_i E_i, r the radius of a voxel over the greatest
    of the mesh, and z its layer, counted from 1, over the number of layers.

    Args:
        voxels: (B, V) MeV.
        geometry: the mesh.
    """
    r = geometry.r_of_voxel / geometry.r_of_voxel.max()
    z = (geometry.layer_of_voxel + 1) / geometry.n_layers
    table = torch.as_tensor(np.stack([r, r**2, z, z**2], 1), dtype=voxels.dtype, device=voxels.device)  # (V, 4)
    return (voxels @ table) / voxels.sum(1, keepdim=True).clamp_min(1e-6)
