"""Precision, recall, density and coverage: does the generator stay in the data, and does it fill them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.metrics.metric import SampleMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample, some_rows

NEAREST = 5
EMPTY = 0.1
"""Energy in MeV that CaloChallenge gives to empty voxels before the logarithm."""
BLOCK = 1000
SHOWERS = 2000
"""Showers of each sample that the quick protocol computes distances of: their number counts squared."""


def log_voxels(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log10 of voxel energies over 0.1 MeV; empty voxels count as 0.1 MeV and give 0.

    CaloChallenge takes log10 of MeV, which is 1 lower everywhere: distances are the same, and with
    most voxels at exactly 0 they lose no digits.
    """
    logs = np.where(voxels == 0, np.float32(EMPTY), voxels)
    logs /= np.float32(EMPTY)
    return np.log10(logs, out=logs)


def prdc(
    reference: NDArray[np.floating], generated: NDArray[np.floating], *, nearest: int = NEAREST
) -> dict[str, Result]:
    """Return precision, recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Each point has a ball that reaches to its ``nearest``-th neighbour in its own sample (Euclidean).
    Precision is the share of generated points inside a ball of the reference, recall the share of
    reference points inside a ball of the generated, density the mean number of reference balls
    around a generated point over ``nearest``, coverage the share of reference balls that hold a
    generated point.

    Distances are computed in blocks in double precision, so memory beyond the two samples does not
    grow with their size squared. The values depend on the number of points.

    Args:
        reference: (N, d) points, float32 or float64.
        generated: (M, d) points.
        nearest: which neighbour sets the radius; both samples need more points than that.

    Returns:
        The four by name. Errors are those of the mean over points, which take the points as
        independent.
    """
    if min(len(reference), len(generated)) <= nearest:
        raise ValueError(f"each sample needs more than {nearest} points")
    square_reference, square_generated = _squares(reference), _squares(generated)
    radius_reference = _radii(reference, square_reference, nearest)
    radius_generated = _radii(generated, square_generated, nearest)
    balls_around = np.zeros(len(generated))  # reference balls that a generated point lies in
    recalled = np.zeros(len(reference), dtype=bool)
    closest = np.full(len(reference), np.inf)
    for i in range(0, len(reference), BLOCK):
        rows = slice(i, i + BLOCK)
        x = np.asarray(reference[rows], dtype=np.float64)
        for j in range(0, len(generated), BLOCK):
            columns = slice(j, j + BLOCK)
            y = np.asarray(generated[columns], dtype=np.float64)
            distance = _distances(x, y, square_reference[rows], square_generated[columns])
            balls_around[columns] += (distance < radius_reference[rows, None]).sum(axis=0)
            recalled[rows] |= (distance < radius_generated[columns]).any(axis=1)
            closest[rows] = np.minimum(closest[rows], distance.min(axis=1))
    n = min(len(reference), len(generated))
    return {
        "precision": _mean(balls_around > 0, n),
        "recall": _mean(recalled, n),
        "density": _mean(balls_around / nearest, n),
        "coverage": _mean(closest < radius_reference, n),
    }


def _radii(x: NDArray[np.floating], squares: NDArray[np.float64], nearest: int) -> NDArray[np.float64]:
    """Return the squared distance of each point to its ``nearest``-th neighbour.

    Each block of the symmetric matrix of distances serves its rows and its columns.
    """
    best = np.full((len(x), nearest), np.inf)
    for i in range(0, len(x), BLOCK):
        rows = slice(i, i + BLOCK)
        own = np.asarray(x[rows], dtype=np.float64)
        for j in range(i, len(x), BLOCK):
            columns = slice(j, j + BLOCK)
            others = own if i == j else np.asarray(x[columns], dtype=np.float64)
            distance = _distances(own, others, squares[rows], squares[columns])
            if i == j:
                np.fill_diagonal(distance, np.inf)  # a point is not its own neighbour
            else:
                best[columns] = _nearest(best[columns], distance.T)
            best[rows] = _nearest(best[rows], distance)
    radii: NDArray[np.float64] = best.max(axis=1)
    return radii


def _nearest(best: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest distances of each row among those kept so far and new ones."""
    kept = best.shape[1]
    return np.partition(np.hstack([best, distance]), kept - 1, axis=1)[:, :kept]


def _distances(
    x: NDArray[np.float64], y: NDArray[np.float64], squares_x: NDArray[np.float64], squares_y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return squared distances, (len(x), len(y))."""
    distance = x @ y.T
    distance *= -2
    distance += squares_x[:, None]
    distance += squares_y
    return np.maximum(distance, 0, out=distance)


def _squares(x: NDArray[np.floating]) -> NDArray[np.float64]:
    blocks = (np.asarray(x[i : i + BLOCK], dtype=np.float64) for i in range(0, len(x), BLOCK))
    return np.concatenate([np.einsum("ij,ij->i", block, block) for block in blocks])


def _mean(values: NDArray[np.generic], n: int) -> Result:
    numbers = values.astype(np.float64)
    return Result(float(numbers.mean()), float(numbers.std() / np.sqrt(len(numbers))), n=n, two_sided=True)


def _of_some(reference: Sample, generated: Sample, seed: int) -> dict[str, Result]:
    rows = some_rows(len(reference.summary), SHOWERS, seed=seed)
    return prdc(log_voxels(reference.voxels(rows)), log_voxels(generated.voxels(rows)))


PRDC = SampleMetric(
    {"precision": "Precision", "recall": "Recall", "density": "Density", "coverage": "Coverage"}, _of_some
)
