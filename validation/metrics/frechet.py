"""Frechet physics distance (FPD) of two samples of features, extrapolated to infinite size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, eigh, eigvalsh
from scipy.optimize import curve_fit, nnls

from caloforge.validation.metrics.metric import FeatureMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.observables.threads import in_threads

FloatArray = NDArray[np.float64]

SMALLEST_CHALLENGE = 10_000
LARGEST = 50_000
N_SIZES = 10
N_DRAWS = 20


def fpd(reference: FloatArray, generated: FloatArray, *, seed: int = 42, normalise: bool = True) -> Result:
    """Return the FPD of Kansal et al. (2023, arXiv:2211.10295) with the sampling scheme of jetnet.

    Features are divided by the reference's largest absolute value. For 10 sizes, evenly spaced in
    1/size between a fifth of the largest and the largest, 20 pairs of samples are drawn with
    replacement; the mean Frechet distance per size is fitted with a + b/size, a and b not negative.
    The largest size is 50,000, or N if N is smaller.

    Args:
        reference: (N, d) features.
        generated: (M, d) features.
        seed: of the draws.
        normalise: divide by the reference's maxima.

    Returns:
        The value is a. Its error adds to the fit's (all that jetnet quotes) the scatter of the draws
        of the largest size, a bootstrap of what other samples would have given. Draws repeat showers
        of finite samples, so that a keeps a part of order d/N: compare it only with the floor at the
        same N.
    """
    if normalise:
        reference, generated = normalised(reference, generated)
    largest = min(LARGEST, len(reference), len(generated))
    sizes = sample_sizes(largest / 5, largest)
    distances = _distances(reference, generated, sizes, seed=seed)
    value, error = _extrapolate(sizes, distances.mean(axis=1))
    bootstrap = float(distances[-1].std(ddof=1))
    return Result(value, float(np.hypot(error, bootstrap)), n=min(len(reference), len(generated)))


def challenge_fpd(reference: FloatArray, generated: FloatArray, *, seed: int = 42, normalise: bool = True) -> Result:
    """Return the FPD as CaloChallenge quotes it, draw for draw as jetnet does.

    As :func:`fpd`, but with sizes from 10,000 to 50,000 whatever N is, and with the error of the
    bounded fit as the only error: it knows nothing of the finite samples. That is ``sampling``, the
    scatter of 20 draws of as many showers as there are.
    """
    if normalise:
        reference, generated = normalised(reference, generated)
    sizes = sample_sizes(SMALLEST_CHALLENGE, LARGEST)
    means = _distances(reference, generated, sizes, seed=seed).mean(axis=1)
    found, covariance = curve_fit(lambda x, a, b: a + b * x, 1 / sizes, means, bounds=([0, 0], [np.inf, np.inf]))
    n = min(len(reference), len(generated))
    scatter = _distances(reference, generated, np.asarray([n]), seed=seed).std(ddof=1)
    return Result(float(found[0]), float(np.sqrt(covariance[0, 0])), n=n, sampling=float(scatter))


def normalised(reference: FloatArray, generated: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Divide both samples by the reference's largest absolute value of each feature."""
    scale = np.abs(reference).max(axis=0)
    scale[scale == 0] = 1.0
    return reference / scale, generated / scale


def sample_sizes(smallest: float, largest: float) -> NDArray[np.int_]:
    """Return ten sizes evenly spaced in 1/size, cut to whole numbers."""
    return (1 / np.linspace(1 / smallest, 1 / largest, N_SIZES)).astype(int)


def _distances(reference: FloatArray, generated: FloatArray, sizes: NDArray[np.int_], *, seed: int) -> FloatArray:
    """Return the Frechet distance of each pair of samples, (sizes, draws)."""
    rng = np.random.default_rng(seed)
    middle = reference.mean(axis=0)  # so that the products of a covariance do not cancel
    reference, generated = reference - middle, generated - middle

    def draws() -> Iterator[tuple[FloatArray, FloatArray]]:
        for size in np.repeat(sizes, N_DRAWS).tolist():
            yield _draw(rng, len(reference), size), _draw(rng, len(generated), size)

    def distance(counts: tuple[FloatArray, FloatArray]) -> float:
        return frechet_distance(*_moments(reference, counts[0]), *_moments(generated, counts[1]))

    return np.asarray(list(in_threads(distance, draws()))).reshape(len(sizes), N_DRAWS)


def _draw(rng: np.random.Generator, n: int, size: int) -> FloatArray:
    """Return how often each of n rows is among ``size`` draws, (n,)."""
    return np.bincount(rng.choice(n, size), minlength=n).astype(np.float64)


def _moments(x: FloatArray, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and covariance of drawn rows; a row that was drawn several times is multiplied once."""
    used = np.flatnonzero(counts)
    total = counts.sum()
    drawn = x[used]
    mean = counts[used] @ drawn / total
    drawn *= np.sqrt(counts[used])[:, None]
    covariance = drawn.T @ drawn
    covariance -= total * np.outer(mean, mean)
    covariance /= total - 1
    return mean, covariance


def frechet_distance(mean1: FloatArray, covariance1: FloatArray, mean2: FloatArray, covariance2: FloatArray) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two Gaussians in d dimensions.

    The trace of the root is the sum of the roots of the eigenvalues of F^T C2 F for any F with
    C1 = F F^T: a symmetric matrix, so no general matrix root is needed.
    """
    factor = _factor(covariance1)
    eigenvalues = eigvalsh(factor.T @ covariance2 @ factor, check_finite=False)
    cross = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    return float(((mean1 - mean2) ** 2).sum() + np.trace(covariance1) + np.trace(covariance2) - 2 * cross)


def _factor(covariance: FloatArray) -> FloatArray:
    try:
        return np.asarray(cholesky(covariance, lower=True, check_finite=False))
    except np.linalg.LinAlgError:  # singular: a constant feature, or fewer showers than features
        values, vectors = eigh(covariance, check_finite=False)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def _extrapolate(sizes: NDArray[np.int_], distances: FloatArray) -> tuple[float, float]:
    """Fit a + b/size with a, b >= 0; return a and its error from the scatter about the fit."""
    design = np.stack([np.ones(len(sizes)), 1 / sizes], axis=1)
    scale = np.asarray([1.0, 1 / sizes.max()])
    solution, residual = nnls(design / scale, np.maximum(distances, 0))
    covariance = np.linalg.inv(design.T @ design) * residual**2 / (len(sizes) - 2)
    return float(solution[0]), float(np.sqrt(covariance[0, 0]))


FPD = FeatureMetric("FPD", lambda x, y, seed: fpd(x, y, seed=seed))
