"""When two ways to compute the same showers agree: PyTorch, ONNX, a server."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-4
"""Largest difference of a voxel, as a share of its shower's energy."""

BORDERLINE_VOXELS = 2
"""So many voxels of a shower may be zeroed on one side and kept on the other."""


def relative_difference(
    showers: NDArray[np.float32], expected: NDArray[np.float32], threshold: float
) -> NDArray[np.float64]:
    """Return each shower's largest voxel difference as a share of its energy, (N,).

    Two ways to compute a voxel differ in the last digits. At the threshold that can decide whether
    it is kept, and its energy then goes to or comes from its layer. Up to two such voxels per shower
    are forgiven: a voxel under twice the threshold that is 0 on the other side does not count, nor
    does so much energy elsewhere in the shower.

    Args:
        showers: (N, V) MeV.
        expected: (N, V) MeV.
        threshold: MeV below which voxels are 0.
    """
    difference = np.abs(showers.astype(np.float64) - expected)
    borderline = ((showers == 0) != (expected == 0)) & (difference <= 2 * threshold)
    borderline &= borderline.sum(axis=1, keepdims=True) <= BORDERLINE_VOXELS
    difference[borderline] = 0
    forgiven = 2 * threshold * borderline.sum(axis=1)
    total = expected.sum(axis=1, dtype=np.float64)
    worst = np.maximum(difference.max(axis=1) - forgiven, 0)
    return np.asarray(worst / np.maximum(total, np.finfo(np.float32).tiny))


def that_must_agree(differences: NDArray[np.float64], flipped_share: float) -> NDArray[np.float64]:
    """Return the differences of the showers that must agree, rising.

    Where a generator makes discrete choices, rounding turns one now and then, and another shower of the
    same kind comes out: those that differ most are left out, as many as may be so.

    Args:
        differences: (N,) of :func:`relative_difference`.
        flipped_share: share of showers in which that may happen (:class:`caloforge.models.family.Family`).
    """
    if not np.isfinite(differences).all():
        return differences  # no choice that was turned makes such a shower
    return np.sort(differences)[: math.ceil((1 - flipped_share) * len(differences))]
