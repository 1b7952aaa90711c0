"""Kernel physics distance (KPD) of two samples of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.metrics.frechet import normalised
from caloforge.validation.metrics.metric import FeatureMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.observables.threads import in_threads

FloatArray = NDArray[np.float64]

N_BATCHES = 10
BATCH_SIZE = 10_000
BLOCK = 1024
"""Rows of the kernel matrix that are in memory at a time."""


def kpd(
    reference: FloatArray,
    generated: FloatArray,
    *,
    seed: int = 42,
    batch_size: int = BATCH_SIZE,
    normalise: bool = True,
) -> Result:
    """Return the KPD of Kansal et al. (2023, arXiv:2211.10295), draw for draw as jetnet does.

    The unbiased quadratic estimate of the maximum mean discrepancy with the kernel (x.y/d + 1)^4,
    for 10 batches drawn with replacement from each sample with the seeds seed + 1000 i. Features
    are divided by the reference's largest absolute values.

    A batch is a vector of counts c over the rows, so the sum over its pairs is c K c: each kernel
    value is computed once however often its rows were drawn, block by block.

    Args:
        reference: (N, d) features.
        generated: (M, d) features.
        seed: of the first batch.
        batch_size: rows in each batch.
        normalise: divide by the reference's maxima.

    Returns:
        The median over batches, which may be negative; its error is half of the range between the
        percentiles 16.275 and 83.725.
    """
    x, y = normalised(reference, generated) if normalise else (reference, generated)
    counts_x, counts_y = np.empty((N_BATCHES, len(x))), np.empty((N_BATCHES, len(y)))
    for i in range(N_BATCHES):
        rng = np.random.default_rng(seed + 1000 * i)
        for counts in (counts_x, counts_y):
            counts[i] = np.bincount(rng.choice(counts.shape[1], batch_size), minlength=counts.shape[1])
    within = [_pairs_within(x, counts_x), _pairs_within(y, counts_y)]
    pairs = batch_size * (batch_size - 1)
    values = sum(within) / pairs - 2 * _pairs_between(x, y, counts_x, counts_y) / batch_size**2
    low, high = np.percentile(values, [16.275, 83.725])
    return Result(float(np.median(values)), float(high - low) / 2, n=min(len(x), len(y)))


def _pairs_within(x: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the sum of the kernel over all pairs of different draws, one for each batch."""
    sums = _pairs_between(x, x, counts, counts)
    own = _powered(np.einsum("ij,ij->i", x, x) / x.shape[1] + 1)
    result: FloatArray = sums - counts @ own
    return result


def _pairs_between(x: FloatArray, y: FloatArray, counts_x: FloatArray, counts_y: FloatArray) -> FloatArray:
    """Return the sum of the kernel over all pairs of draws, one for each batch.

    All batches together need N M kernel values, one after the other the products of their distinct
    rows: the cheaper way is taken.
    """
    together = len(x) * len(y)
    apart = int(((counts_x > 0).sum(axis=1) * (counts_y > 0).sum(axis=1)).sum())
    groups = [slice(None)] if together <= apart else [slice(i, i + 1) for i in range(len(counts_x))]
    parts = []
    for group in groups:
        wx, wy = counts_x[group], counts_y[group]
        rows_x, rows_y = wx.any(axis=0), wy.any(axis=0)
        parts.append(_weighted_sums(x[rows_x], y[rows_y], wx[:, rows_x], wy[:, rows_y], same=x is y))
    return np.concatenate(parts)


def _weighted_sums(x: FloatArray, y: FloatArray, wx: FloatArray, wy: FloatArray, *, same: bool) -> FloatArray:
    """Return w_x K w_y for each row of the weights; of a symmetric kernel only the upper half is computed."""
    scaled = x / x.shape[1]

    def rows_from(i: int) -> FloatArray:
        sums = np.zeros(len(wx))
        for j in range(i if same else 0, len(y), BLOCK):
            kernel = scaled[i : i + BLOCK] @ y[j : j + BLOCK].T
            kernel += 1
            part = np.einsum("bi,ib->b", wx[:, i : i + BLOCK], _powered(kernel) @ wy[:, j : j + BLOCK].T)
            sums += 2 * part if same and j > i else part
        return sums

    sums: FloatArray = sum(in_threads(rows_from, range(0, len(x), BLOCK)), np.zeros(len(wx)))
    return sums


def _powered(base: FloatArray) -> FloatArray:
    """Return the fourth power, in place."""
    np.square(base, out=base)
    return np.square(base, out=base)


KPD = FeatureMetric("KPD", lambda x, y, seed: kpd(x, y, seed=seed, batch_size=min(BATCH_SIZE, len(x))))
