"""Are these energies in MeV? What a sample of showers says of itself.

A sampling calorimeter may record a few per cent of the incident energy (its raw deposits), or all of it (deposits that
are scaled up, as CaloChallenge's are). Nothing that the package simulates or has seen records less than half a per
cent; energies that are 1000 times too small are in GeV.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_RESPONSE = 3e-3
"""Mean E_tot / E_inc. The thinnest calorimeters record a per cent; GeV for MeV makes 0.001 of what is complete."""

MOST_BELOW = 0.1
"""Share of the voxels with energy that may be below a threshold at which the file says that it was cut."""

LEAST_KEPT = 0.5
"""Share of the energy that a threshold must leave: what it cuts away no generator can learn."""

LOW_ENERGY = 1000.0
"""MeV. Showers of less are rare enough to ask whether these are GeV."""

_STEEP = 0.2
_SPAN = 3.0


def wrong_units(energy: NDArray[np.float64], total: NDArray[np.float64], *, least_response: float) -> str:
    """Say why a sample cannot be in MeV; empty if it can.

    Args:
        energy: (N,) incident energies, MeV.
        total: (N,) sums of all voxels, MeV.
        least_response: least possible mean E_tot / E_inc.
    """
    if not len(energy) or not total.any():
        return ""
    response = float((total / energy).mean())
    if response < least_response or (response < 0.3 and _is_share(energy, total)):
        if _is_share(energy, total):
            return (
                f"the voxels of a shower add up to {np.median(total):.3g} whatever its incident energy, as if they were "
                "fractions of it; multiply them by the incident energy: MeV are expected"
            )
        return (
            f"the showers hold {response:.3g} of the incident energy, less than any calorimeter (min_response "
            f"{least_response:g}): are the voxels in GeV, or the incident energies in keV? MeV are expected"
        )
    if response > 1000 / 30:
        return (
            f"the showers hold {response:.3g} times the incident energy: are the incident energies in GeV and the voxels "
            "in MeV? MeV are expected for both"
        )
    return ""


def _is_share(energy: NDArray[np.float64], total: NDArray[np.float64]) -> bool:
    """Return whether showers add up to about 1, whatever their incident energy."""
    if not 0.2 < float(np.median(total)) < 1.5:
        return False
    filled = total > 0
    x, y = np.log(energy[filled]), np.log(total[filled])
    if len(x) < 2 or np.exp(np.ptp(x)) < _SPAN:
        return bool(np.median(energy) > LOW_ENERGY)  # at one energy, a sum of 1 MeV is no shower of GeV
    return float(np.polyfit(x, y, 1)[0]) < _STEEP
