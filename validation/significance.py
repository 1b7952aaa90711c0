"""The significance of the worst of several comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

LARGEST = 35.0
"""Significances are cut here: the probability beyond is smaller than a float can hold."""


def worst_of(sigmas: Sequence[float]) -> float:
    """Return the significance of the largest of several, corrected for their number.

    The chance that the largest of n independent normal values reaches it by luck is
    1 - (1 - p)^n (Sidak 1967), expressed again as a number of standard deviations, one-sided.
    """
    chance = norm.sf(min(max(sigmas), LARGEST))
    corrected = norm.isf(-np.expm1(len(sigmas) * np.log1p(-min(chance, 1 - 1e-16))))
    return float(np.clip(corrected, -LARGEST, LARGEST))


def either_way(sigma: float) -> float:
    """Return the one-sided significance that is as improbable as ``sigma`` in either direction."""
    return float(np.clip(norm.isf(2 * norm.sf(min(abs(sigma), LARGEST))), -LARGEST, LARGEST))
