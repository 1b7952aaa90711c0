"""Wasserstein-1 (earth mover's) distance of two distributions in one dimension."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.metrics.metric import DistributionMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.observables.summary import Profile

FloatArray = NDArray[np.float64]


def wasserstein(reference: FloatArray, generated: FloatArray) -> Result:
    """Return the distance in units of the reference's standard deviation, the mean over columns.

    With equal numbers of values it is the mean distance between the two sorted samples, which
    equals ``scipy.stats.wasserstein_distance``.

    Args:
        reference: (N,) or (N, columns) values.
        generated: as many values.

    Returns:
        ``absolute`` is the distance in the observable's own unit. The error comes from the
        variance of the Kantorovich potential in both samples; that of the mean over columns takes
        them as fully correlated, an upper bound.
    """
    distance, error = distances(reference, generated)
    n = len(reference)
    unit = np.atleast_1d(reference.std(axis=0))
    unit[unit == 0] = 1.0
    parts, errors = distance / unit, error / unit
    several = len(parts) > 1
    return Result(
        float(parts.mean()),
        float(errors.mean()),
        n=n,
        parts=tuple(parts.tolist()) if several else (),
        part_errors=tuple(errors.tolist()) if several else (),
        absolute=float(distance.mean()),
    )


def distances(reference: FloatArray, generated: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the distance of each column in its own unit, and its error; see :func:`wasserstein`."""
    if reference.shape != generated.shape:
        raise ValueError(f"samples must have the same shape, got {reference.shape} and {generated.shape}")
    n = len(reference)
    x, y = np.sort(reference.reshape(n, -1), axis=0), np.sort(generated.reshape(n, -1), axis=0)
    distance: FloatArray = np.abs(x - y).mean(axis=0)  # (columns,)
    return distance, np.sqrt(_potential_variance(x, y) / n)


def _potential_variance(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the variance of the Kantorovich potential in two sorted samples (N, columns), added up, of each column.

    The potential rises by as much as the coordinate where the one distribution function leads and falls where it
    trails; it is followed through all values, so that samples with many equal ones (empty layers) have their error too.
    """
    n = len(x)
    both = np.concatenate([x, y])
    order = np.argsort(both, axis=0, kind="stable")
    first = order < n
    lead = np.sign(np.cumsum(np.where(first, 1, -1), axis=0)[:-1])
    steps = lead * np.diff(np.take_along_axis(both, order, axis=0), axis=0)
    potential = np.concatenate([np.zeros((1, both.shape[1])), np.cumsum(steps, axis=0)])
    variance: FloatArray = np.zeros(both.shape[1])
    for mine in (first, ~first):
        mean = (potential * mine).sum(axis=0) / n
        variance += ((potential - mean) ** 2 * mine).sum(axis=0) / n
    return variance


def wasserstein_of_profiles(reference: Profile, generated: Profile, *, n: int) -> Result:
    """Return the distance of two mean spectra over ``n`` showers each, both scaled to 1.

    The coordinate is log10 of the bins, so the absolute distance is in decades.
    """
    centre = np.log10(reference.edges[:-1] * reference.edges[1:]) / 2
    step = np.diff(centre)
    h1, h2 = (p.mean / max(p.mean.sum(), 1e-300) for p in (reference, generated))
    gap = np.cumsum(h1 - h2)[:-1]
    distance = float((np.abs(gap) * step).sum())
    mean = float((h1 * centre).sum())
    unit = float(np.sqrt((h1 * (centre - mean) ** 2).sum())) or 1.0
    # The potential rises or falls by one bin where the one spectrum leads or trails.
    potential = np.concatenate([[0.0], np.cumsum(np.sign(gap) * step)])
    variance = sum(
        (((potential - (h * potential).sum()) * p.error / max(p.mean.sum(), 1e-300)) ** 2).sum()
        for h, p in ((h1, reference), (h2, generated))
    )
    return Result(distance / unit, float(np.sqrt(variance)) / unit, n=n, absolute=distance)


WASSERSTEIN = DistributionMetric(
    "Wasserstein-1 (in std. dev.)",
    "Mean Wasserstein-1 (in std. dev.)",
    lambda _, x, y: wasserstein(x, y),
    lambda x, y, n: wasserstein_of_profiles(x, y, n=n),
)
