"""Frechet physics distance (FPD) of two samples of features, extrapolated to infinite size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, eigh, eigvalsh
from scipy.optimize import nnls

from caloforge.validation.result import Result

FloatArray = NDArray[np.float64]

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
        scale = np.abs(reference).max(axis=0)
        scale[scale == 0] = 1.0
        reference, generated = reference / scale, generated / scale
    largest = min(LARGEST, len(reference), len(generated))
    sizes = (1 / np.linspace(5 / largest, 1 / largest, N_SIZES)).astype(int)
    rng = np.random.default_rng(seed)
    distances = np.empty((N_SIZES, N_DRAWS))
    for i, size in enumerate(sizes):
        for j in range(N_DRAWS):
            x = reference[rng.choice(len(reference), size)]
            y = generated[rng.choice(len(generated), size)]
            distances[i, j] = frechet_distance(x.mean(axis=0), _covariance(x), y.mean(axis=0), _covariance(y))
    value, error = _extrapolate(sizes, distances.mean(axis=1))
    bootstrap = float(distances[-1].std(ddof=1))
    return Result(value, float(np.hypot(error, bootstrap)), n=min(len(reference), len(generated)))


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


def _covariance(x: FloatArray) -> FloatArray:
    centred = x - x.mean(axis=0)
    covariance: FloatArray = centred.T @ centred / (len(x) - 1)
    return covariance


def _extrapolate(sizes: NDArray[np.int_], distances: FloatArray) -> tuple[float, float]:
    """Fit a + b/size with a, b >= 0; return a and its error from the scatter about the fit."""
    design = np.stack([np.ones(len(sizes)), 1 / sizes], axis=1)
    scale = np.asarray([1.0, 1 / sizes.max()])
    solution, residual = nnls(design / scale, np.maximum(distances, 0))
    covariance = np.linalg.inv(design.T @ design) * residual**2 / (len(sizes) - 2)
    return float(solution[0]), float(np.sqrt(covariance[0, 0]))
