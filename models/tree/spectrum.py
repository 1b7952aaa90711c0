"""Landmarks of the hit spectrum: where single hits like to be, in this detector."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

QUANTILES = (0.01, 0.03, 0.07, 0.10, 0.25)
"""Quantiles of the hit energies at which a split is told where it would stand."""

PEAKS = 2

BIN = 0.025
"""Of the spectrum, in log10 of the energy."""

SMOOTHING = 1.5
"""Bins over which the spectrum is smoothed, one standard deviation of a Gaussian."""


class HitSpectrum(nn.Module):
    """Energies that the networks of the energy shares are told of, and at two of which components stand.

    Attributes:
        peaks: (2,) MeV, rising: the sharpest bends of the hit spectrum. Those of single particles that
            cross one and two sensors of a cell are sharp peaks or edges, showers are broad.
        quantiles: (5,) MeV.
    """

    peaks: Tensor
    quantiles: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("peaks", torch.ones(PEAKS))
        self.register_buffer("quantiles", torch.ones(len(QUANTILES)))

    def fit(self, hits: NDArray[np.float32]) -> None:
        """Find the landmarks.

        Args:
            hits: energies in MeV of a sample of hits.
        """
        self.quantiles.copy_(torch.from_numpy(np.quantile(hits, QUANTILES)))
        self.peaks.copy_(torch.tensor(sorted(sharpest_bends(hits, PEAKS))))


def sharpest_bends(hits: NDArray[np.float32], n: int) -> list[float]:
    """Return the n energies in MeV where the spectrum of log(energy) bends down most, the sharpest first.

    Where a spectrum has fewer bends, the last is repeated; where it has none, its median serves.
    """
    from scipy.ndimage import gaussian_filter1d  # with find_peaks two seconds to import, for a training alone
    from scipy.signal import find_peaks

    log_energy = np.log10(hits)
    edges = np.arange(log_energy.min() - 5 * BIN, log_energy.max() + 6 * BIN, BIN)
    counts, edges = np.histogram(log_energy, bins=edges)
    bend = -gaussian_filter1d(counts.astype(float), SMOOTHING, order=2)
    found, _ = find_peaks(bend, distance=6)
    order = found[np.argsort(-bend[found])][:n]
    energies = [float(10 ** ((edges[i] + edges[i + 1]) / 2)) for i in order]
    energies = energies or [float(np.median(hits))]
    return energies + energies[-1:] * (n - len(energies))
