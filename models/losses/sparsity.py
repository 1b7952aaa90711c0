"""How few voxels the energy of a layer is in, as an extra term of the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from caloforge.geometry import Geometry
from caloforge.models.batch import Batch, Decoded
from caloforge.models.losses.distance import squared_distance


def sparsity(batch: Batch, decoded: Decoded) -> Tensor:
    """Return (), the mean squared distance between sparsities of layers of generated and of true showers, without unit."""
    ours, theirs = (layer_sparsity(voxels, batch.geometry) for voxels in (decoded.showers, batch.voxels))
    return squared_distance(ours, theirs, paired=decoded.paired) / batch.geometry.n_layers


def layer_sparsity(voxels: Tensor, geometry: Geometry) -> Tensor:
    """Return 1 - n_eff / n of each layer with n voxels, (B, L): n_eff = (sum E)^2 / sum E^2 voxels with equal energies.

    The number of hits has no gradient, and families of two stages draw it first; this says as well how evenly energy is
    shared among them (Hurley and Rickard, arXiv:0811.4706, the inverse of the ratio of norms). An empty layer has 1.

    Args:
        voxels: (B, V) MeV.
        geometry: the mesh.
    """
    layer = torch.as_tensor(geometry.layer_of_voxel, device=voxels.device)
    zero = torch.zeros(len(voxels), geometry.n_layers, dtype=voxels.dtype, device=voxels.device)
    energy, square = (zero.index_add(1, layer, values) for values in (voxels, voxels.square()))
    sizes = torch.as_tensor(geometry.layer_sizes, dtype=voxels.dtype, device=voxels.device)
    return 1 - energy.square() / square.clamp_min(1e-12) / sizes
