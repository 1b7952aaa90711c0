"""The shower centre as an extra term of the loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caloforge.geometry import Geometry
from caloforge.models.batch import Batch, Decoded
from caloforge.models.losses.distance import squared_distance


def shower_centre(batch: Batch, decoded: Decoded) -> Tensor:
    """Return (), the mean squared distance between generated and true shower centres, mm^2.

    Layers with one alpha bin have no transverse position and do not count.
    """
    ours, theirs = (centre(voxels, batch.geometry) for voxels in (decoded.showers, batch.voxels))
    return squared_distance(ours, theirs, paired=decoded.paired)


def centre(voxels: Tensor, geometry: Geometry) -> Tensor:
    """Return the energy-weighted mean transverse position of each shower, (B, 2) mm: sum_i E_i x_i / sum_i E_i.

    Args:
        voxels: (B, V) MeV.
        geometry: the mesh.
    """
    counts = np.isin(geometry.layer_of_voxel, geometry.transverse_layers)
    table = np.stack([geometry.eta_of_voxel, geometry.phi_of_voxel, counts], 1)  # (V, 3)
    sums = voxels @ torch.as_tensor(table, dtype=voxels.dtype, device=voxels.device)  # (B, 3)
    # A shower without energy there is at the centre of the mesh.
    return sums[:, :2] / sums[:, 2:].clamp_min(1e-6)
