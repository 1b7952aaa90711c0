"""Log-likelihoods of the showers of a file, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.models.bundle import condition_columns
from caloforge.models.family import Family
from caloforge.showers import Showers, VoxelArray, cut

FloatArray = NDArray[np.float64]

TOTAL = "total"
"""Sum of the parts, the log-likelihood of the shower."""


def log_probs(network: Family, showers: Showers) -> Iterator[dict[str, FloatArray]]:
    """Yield the log-likelihoods of showers, (n,) float64 for each of the family's parts and the total.

    Args:
        network: of a family with a likelihood.
        showers: with the conditions that it needs; energies below its threshold count as 0.

    Raises:
        InputError: an energy is negative, NaN or infinite.
    """
    device = next(network.parameters()).device
    conditions = condition_columns(showers.conditions, network.data.conditions)
    start = 0
    for chunk in showers.chunks(network.sampling_batch(device)):
        if not (fine := (np.isfinite(chunk) & (chunk >= 0)).all(axis=1)).all():
            row = showers.rows[start + int(np.argmin(fine))]
            raise InputError(f"{showers.path}: showers: row {row} has an energy that is negative or no finite number")
        yield log_probs_of(network, conditions[start : start + len(chunk)], cut(chunk, network.data.threshold))
        start += len(chunk)


def log_probs_of(network: Family, conditions: NDArray[np.float32], voxels: VoxelArray) -> dict[str, FloatArray]:
    """Return the log-likelihoods of (n, V) energies in MeV, (n,) for each part and the total.

    Args:
        network: of a family with a likelihood.
        conditions: (n, K) as :func:`caloforge.models.bundle.condition_columns` returns them.
        voxels: nothing is between 0 and the threshold.
    """
    device = next(network.parameters()).device
    with torch.inference_mode():
        parts = network.log_prob(torch.from_numpy(conditions).to(device), torch.from_numpy(voxels).to(device))
    found = {name: values.double().cpu().numpy() for name, values in parts.items()}
    return {**found, TOTAL: np.sum(list(found.values()), axis=0)}
