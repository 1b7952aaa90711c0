"""The spectrum of voxel energies as an extra term of the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from caloforge.models.batch import Batch, Decoded
from caloforge.models.losses.distance import squared_distance

N_ENERGIES = 16
"""Energies above which voxels are counted."""


def voxel_spectrum(batch: Batch, decoded: Decoded) -> Tensor:
    """Return (), the mean squared distance between counts of voxels above energies, in Poisson errors of the true ones.

    The energies are in equal steps of the logarithm from the threshold to the hottest voxel of the batch.
    """
    true = batch.voxels
    top = true.max().clamp_min(2 * batch.threshold)
    edges = torch.logspace(
        0, 1, N_ENERGIES + 1, base=float(top / batch.threshold), dtype=true.dtype, device=true.device
    )
    edges = batch.threshold * edges[:-1]
    ours, theirs = (counts_above(voxels, edges, batch.threshold) for voxels in (decoded.showers, true))
    error = (theirs.mean(0) + 1).sqrt()
    return squared_distance(ours / error, theirs / error, paired=decoded.paired) / N_ENERGIES


def counts_above(voxels: Tensor, edges: Tensor, threshold: float) -> Tensor:
    """Return how many voxels of each shower are above energies, (B, E); a voxel near an edge counts in part.

    With v the energy and e the edge it counts v^k / (v^k + e^k), a logistic function of log(v / e), where k makes it half
    a step of the edges wide. A voxel without energy counts nothing.

    Args:
        voxels: (B, V) MeV.
        edges: (E,) MeV, in equal steps of the logarithm.
        threshold: MeV.
    """
    width = 0.5 * (edges[1] / edges[0]).log()
    log_energy = voxels.clamp_min(1e-6 * threshold).log()
    counts = [torch.sigmoid((log_energy - edge.log()) / width) for edge in edges]
    return torch.stack([(count * (voxels > 0)).sum(1) for count in counts], 1)
