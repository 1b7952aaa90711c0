"""Precision, recall, density and coverage: does the generator stay in the data, and does it fill them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.metrics.metric import SampleMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample, some_rows

NEAREST = 5
N_GROUPS = 20
"""Groups of generated points that are left out in turn for errors."""
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
        The four by name. Errors are what another generated sample would change, the reference being the
        same. Precision and density are means over generated points. Recall and coverage are not: where
        points are many-dimensional a few of them (showers with few hits) are neighbours of most others,
        and one more or less of these moves many reference points at once. Theirs are the jackknife's of
        20 groups of generated points.
    """
    if min(len(reference), len(generated)) <= nearest:
        raise ValueError(f"each sample needs more than {nearest} points")
    square_reference, square_generated = _squares(reference), _squares(generated)
    group = np.arange(len(generated)) % min(N_GROUPS, len(generated))
    groups = range(group.max() + 1)
    radius_reference = _Neighbours(reference, square_reference, nearest).radii()
    neighbours = _Neighbours(generated, square_generated, nearest, group)
    radius_generated, radius_without = neighbours.radii(), [neighbours.radii(without=g) for g in groups]
    balls_around = np.zeros(len(generated))  # reference balls that a generated point lies in
    recalled = np.zeros(len(reference), dtype=bool)
    recalled_without = np.zeros((len(groups), len(reference)), dtype=bool)
    closest = np.full((len(groups), len(reference)), np.inf)  # generated point of each group
    for i in range(0, len(reference), BLOCK):
        rows = slice(i, i + BLOCK)
        x = np.asarray(reference[rows], dtype=np.float64)
        for j in range(0, len(generated), BLOCK):
            columns = slice(j, j + BLOCK)
            y = np.asarray(generated[columns], dtype=np.float64)
            distance = _distances(x, y, square_reference[rows], square_generated[columns])
            balls_around[columns] += (distance < radius_reference[rows, None]).sum(axis=0)
            recalled[rows] |= (distance < radius_generated[columns]).any(axis=1)
            for g in groups:
                own = group[columns] == g
                recalled_without[g, rows] |= (distance < np.where(own, 0, radius_without[g][columns])).any(axis=1)
                closest[g, rows] = np.minimum(closest[g, rows], distance[:, own].min(axis=1, initial=np.inf))
    inside = closest < radius_reference  # (G, N)
    covered_without = (inside.sum(axis=0) - inside) > 0
    n = min(len(reference), len(generated))
    return {
        "precision": _mean(balls_around > 0, n),
        "recall": _jackknife(recalled, recalled_without, n),
        "density": _mean(balls_around / nearest, n),
        "coverage": _jackknife(np.asarray(inside.any(axis=0)), covered_without, n),
    }


class _Neighbours:
    """Squared distances of each point of a sample to its nearest neighbours, and the groups that these are in."""

    def __init__(
        self,
        x: NDArray[np.floating],
        squares: NDArray[np.float64],
        nearest: int,
        group: NDArray[np.int64] | None = None,
    ) -> None:
        """Each block of the symmetric matrix of distances serves its rows and its columns."""
        self._nearest = nearest
        # Some more than are asked for, of which one group may be left out.
        kept = nearest if group is None else min(3 * nearest, len(x) - 1)
        group = np.zeros(len(x), np.int64) if group is None else group
        self._distance, self._group = np.full((len(x), kept), np.inf), np.zeros((len(x), kept), np.int64)
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
                    self._add(columns, distance.T, group[rows])
                self._add(rows, distance, group[columns])
        order = np.argsort(self._distance, axis=1)
        self._distance, self._group = (np.take_along_axis(a, order, axis=1) for a in (self._distance, self._group))

    def _add(self, rows: slice, distance: NDArray[np.float64], group: NDArray[np.int64]) -> None:
        """Keep the smallest distances of some rows among those kept so far and new ones."""
        kept = self._distance.shape[1]
        place = np.argpartition(distance, min(kept, distance.shape[1]) - 1, axis=1)[:, :kept]
        distance = np.hstack([self._distance[rows], np.take_along_axis(distance, place, axis=1)])
        groups = np.hstack([self._group[rows], group[place]])
        place = np.argpartition(distance, kept - 1, axis=1)[:, :kept]
        self._distance[rows], self._group[rows] = (np.take_along_axis(a, place, axis=1) for a in (distance, groups))

    def radii(self, *, without: int | None = None) -> NDArray[np.float64]:
        """Return the squared distance of each point to its ``nearest``-th neighbour, one group left out."""
        if without is None:
            return self._distance[:, self._nearest - 1]
        found = np.cumsum(self._group != without, axis=1)
        place = np.minimum((found < self._nearest).sum(axis=1), self._distance.shape[1] - 1)
        radii: NDArray[np.float64] = self._distance[np.arange(len(place)), place]
        return radii


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


def _jackknife(values: NDArray[np.bool_], without: NDArray[np.bool_], n: int) -> Result:
    """Return the mean of (N,) values with its error from those without each group, (G, N)."""
    error = np.sqrt((len(without) - 1) * without.mean(axis=1).var())
    return Result(float(values.mean()), float(error), n=n, two_sided=True)


def _of_some(reference: Sample, generated: Sample, seed: int) -> dict[str, Result]:
    rows = some_rows(len(reference.summary), SHOWERS, seed=seed)
    return prdc(log_voxels(reference.voxels(rows)), log_voxels(generated.voxels(rows)))


PRDC = SampleMetric(
    {"precision": "Precision", "recall": "Recall", "density": "Density", "coverage": "Coverage"}, _of_some
)
