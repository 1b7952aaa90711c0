"""Bin edges that fit any observable, and histograms that lose no shower."""

from __future__ import annotations

from dataclasses import dataclass

import boost_histogram as bh
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

N_BINS = 50
N_ENERGY_BINS = 8
FEWEST = 10
"""Showers that a bin of energy or angle needs to count."""


@dataclass(frozen=True)
class Curve:
    """Values in bins with their errors, (B,) each; NaN where a bin holds nothing."""

    value: FloatArray
    error: FloatArray


def bin_edges(values: FloatArray, *, log: bool = False, n_bins: int = N_BINS) -> FloatArray:
    """Return edges over the central 99.8 % of the reference's values.

    Values on a grid (voxel counts, sparsity) get bins of a whole number of grid steps, so that no
    comb appears.

    Args:
        values: (N,) values of the reference.
        log: space the edges logarithmically over the values above 0.
        n_bins: number of bins; fewer for values on a coarse grid, one if all are equal.
    """
    if log:
        values = values[values > 0]
    if len(values) == 0:
        return np.asarray([0.5, 1.5])
    low, high = np.quantile(values, [0.001, 0.999])
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        spread = max(abs(low) * 1e-6, 1e-9)
        return np.asarray([low - spread, high + spread])
    if log:
        return np.geomspace(low, high, n_bins + 1)
    step = np.diff(np.unique(values)).min()
    levels = (high - low) / step
    if levels < 20 * n_bins:
        stride = np.ceil((levels + 1) / n_bins)
        n_edges = int(np.ceil((levels + 1) / stride)) + 1
        edges: FloatArray = low - step / 2 + step * stride * np.arange(n_edges)
        return edges
    return np.linspace(low, high, n_bins + 1)


def histogram(values: FloatArray, edges: FloatArray) -> FloatArray:
    """Return the fraction of values in each bin, (bins + 2,), sum 1.

    The first and the last entry are what lies below and above the edges.
    """
    closed = [*edges[:-1], np.nextafter(edges[-1], np.inf)]  # the last bin holds its upper edge
    counts = bh.Histogram(bh.axis.Variable(closed)).fill(values).values(flow=True)
    return np.asarray(counts) / len(values)


def fractions(values: FloatArray, edges: FloatArray) -> Curve:
    """Return the fraction of values in each bin; the outermost bins hold what lies beyond them."""
    if len(values) == 0:
        return Curve(*np.full((2, len(edges) - 1), np.nan))
    counted = histogram(values, edges)
    inside = counted[1:-1]
    inside[0] += counted[0]
    inside[-1] += counted[-1]
    return Curve(inside, np.sqrt(inside / len(values)))


def number_of_bins(n: int) -> int:
    """Return how many bins n showers are drawn in."""
    return int(np.clip(np.sqrt(n) / 1.5, 10, 50))


def mean_in_bins(where: FloatArray, values: FloatArray, edges: FloatArray) -> Curve:
    """Return the mean of (N,) values in each bin and its error; NaN with fewer than 10 showers."""
    profile = bh.Histogram(bh.axis.Variable(edges), storage=bh.storage.Mean())
    profile.fill(where, sample=values)
    n = np.asarray(profile.counts())
    few = n < FEWEST
    mean, error = (np.asarray(x) for x in (profile.values(), np.sqrt(np.asarray(profile.variances()))))
    return Curve(np.where(few, np.nan, mean), np.where(few, np.nan, error))


def energy_edges(energies: FloatArray) -> FloatArray:
    """Return edges in MeV: eight bins, or one bin around each energy if there are few of them."""
    levels = np.unique(energies)
    if len(levels) > 2 * N_ENERGY_BINS:
        edges = np.geomspace(levels[0], levels[-1], N_ENERGY_BINS + 1)
        edges[-1] *= 1 + 1e-9
        return edges
    middles = np.sqrt(levels[1:] * levels[:-1])
    first, last = (
        (levels[0] ** 2 / middles[0], levels[-1] ** 2 / middles[-1]) if len(middles) else (levels[0] / 2, levels[0] * 2)
    )
    return np.asarray([first, *middles, last])


def angle_edges(angles: FloatArray) -> FloatArray:
    """Return edges in rad: eight equal bins, or one bin around each angle if there are few of them."""
    levels = np.unique(np.round(angles, 9))
    if len(levels) > 2 * N_ENERGY_BINS:
        return np.linspace(levels[0], np.nextafter(levels[-1], np.inf) + 1e-9, N_ENERGY_BINS + 1)
    if len(levels) == 1:
        return np.asarray([levels[0] - 0.5, levels[0] + 0.5])
    middles = (levels[1:] + levels[:-1]) / 2
    return np.asarray([2 * levels[0] - middles[0], *middles, 2 * levels[-1] - middles[-1]])
