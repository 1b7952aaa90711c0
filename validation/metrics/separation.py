"""Separation power of two distributions: 0 for equal ones, 1 for disjoint ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.metrics.metric import DistributionMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.observables.histogram import bin_edges, histogram
from caloforge.validation.observables.summary import Profile

FloatArray = NDArray[np.float64]


def separation_power(reference: FloatArray, generated: FloatArray, *, log: bool = False) -> Result:
    """Return S = 1/2 sum (h1 - h2)^2 / (h1 + h2), the mean over columns.

    Bins span the reference's central 99.8 %, and what lies below and above are bins of their own:
    no shower is dropped, unlike in the CaloChallenge script, which renormalises inside its range.
    Between equal distributions S is (occupied bins) / (2 N).

    Args:
        reference: (N,) or (N, columns) values.
        generated: (M,) or (M, columns) values.
        log: logarithmic bins.

    Returns:
        The error combines the first-order propagation of the bins' multinomial errors with their
        second-order term, which is what is left between equal distributions. That of the mean
        over columns takes them as fully correlated, an upper bound.
    """
    reference, generated = np.atleast_2d(reference.T), np.atleast_2d(generated.T)  # (columns, N)
    values, errors = [], []
    for x, y in zip(reference, generated, strict=True):
        edges = bin_edges(x, log=log)
        h1, h2 = histogram(x, edges), histogram(y, edges)
        value, error = separation_of_histograms(h1, h2, h1 / len(x), h2 / len(y))
        values.append(value)
        errors.append(error)
    several = len(values) > 1
    return Result(
        float(np.mean(values)),
        float(np.mean(errors)),
        n=reference.shape[1],
        parts=tuple(values) if several else (),
        part_errors=tuple(errors) if several else (),
    )


def separation_of_profiles(reference: Profile, generated: Profile, *, n: int) -> Result:
    """Return the separation power of two mean spectra over ``n`` showers each, both scaled to 1."""
    scale1, scale2 = max(reference.mean.sum(), 1e-300), max(generated.mean.sum(), 1e-300)
    value, error = separation_of_histograms(
        reference.mean / scale1,
        generated.mean / scale2,
        (reference.error / scale1) ** 2,
        (generated.error / scale2) ** 2,
    )
    return Result(value, error, n=n)


def separation_of_histograms(
    h1: FloatArray, h2: FloatArray, variance1: FloatArray, variance2: FloatArray
) -> tuple[float, float]:
    """Return the separation power of two histograms of sum 1 and its error.

    Args:
        h1: (B,) contents.
        h2: (B,) contents.
        variance1: (B,) squared errors of ``h1``.
        variance2: (B,) squared errors of ``h2``.
    """
    total = h1 + h2
    used = total > 0
    h1, h2, variance1, variance2, total = (x[used] for x in (h1, h2, variance1, variance2, total))
    difference = h1 - h2
    slope1 = difference * (h1 + 3 * h2) / (2 * total**2)
    slope2 = difference * (h2 + 3 * h1) / (2 * total**2)
    first_order = slope1**2 * variance1 + slope2**2 * variance2
    second_order = ((variance1 + variance2) / total) ** 2 / 2
    return float((difference**2 / total).sum() / 2), float(np.sqrt((first_order + second_order).sum()))


SEPARATION = DistributionMetric(
    "Separation power",
    "Mean separation power",
    lambda observable, x, y: separation_power(x, y, log=observable.log),
    lambda x, y, n: separation_of_profiles(x, y, n=n),
)
