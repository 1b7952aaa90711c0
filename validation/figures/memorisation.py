"""Does a generator repeat its training sample: distances of generated and held-out showers to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from caloforge.showers import Showers, VoxelArray
from caloforge.validation.figures.found import Found, figure_rows
from caloforge.validation.metrics.classifier import auc_error
from caloforge.validation.metrics.prdc import log_voxels
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample, some_rows
from caloforge.validation.row import Row

FloatArray = NDArray[np.float64]

ASKED = 1000
"""Showers of each sample whose nearest neighbour is sought."""
SEARCHED = 20_000
"""Showers of the training sample that are searched."""
BLOCK = 1000
N_BOOTSTRAPS = 200
SAME = 1e-3
"""Distance up to which two showers are the same, for they are stored with seven digits."""


def memorisation(
    training: Showers, reference: Sample, floor: Sample, generated: Mapping[str, Sample], *, seed: int
) -> list[Row]:
    """Compare distances to the training sample with those of held-out showers.

    The test of Meehan, Chaudhuri and Dasgupta (2020, arXiv:2004.05675): the probability that a
    generated shower is nearer to the training sample than one of the reference, which no generator
    has seen. 1/2 is right, 1 a copy. Distances are Euclidean in log10 of voxel energies, as for
    precision and recall; at most 1000 showers of each sample are compared with at most 20,000 of the
    training sample, chosen at random.

    Args:
        training: what the generators were trained on.
        reference: held-out showers.
        floor: more of them.
        generated: the generators' samples, as long as the reference.
        seed: of the choice of showers and of the bootstrap.

    Returns:
        The rows of two physics figures: the probability, tested against the floor, and the ratio of the
        median distances. ``extra`` has ``copies``, the share of showers that are in the training sample,
        ``reference_copies`` and ``floor_copies``, that of Geant4's, and ``n_training``, how many were searched.
    """
    asked_rows = some_rows(len(reference.summary), ASKED, seed=seed)
    samples = [reference, floor, *generated.values()]
    asked = np.concatenate([log_voxels(sample.voxels(asked_rows)) for sample in samples])
    searched = training.select(some_rows(len(training), SEARCHED, seed=seed))
    distances = np.split(nearest_distances(asked, searched, threshold=reference.summary.threshold), len(samples))
    held_out, second, *others = distances
    judged = dict(zip(generated, others, strict=True))
    reference_copies = float((held_out <= SAME).mean())

    def rows(
        name: str, title: str, measure: Callable[[FloatArray, FloatArray], Result], *, value: float, tested: bool
    ) -> Iterator[Row]:
        below = measure(second, held_out)

        def found(distances: FloatArray) -> Found:
            result = measure(distances, held_out)
            counts = {
                "copies": float((distances <= SAME).mean()), "reference_copies": reference_copies,
                "floor_copies": float((second <= SAME).mean()), "n_training": len(searched),
            }  # fmt: skip
            return Found(result.value, result.error, result.sigma_from(below), extra=counts)

        return figure_rows(
            name, title, Found(below.value, below.error, 0.0), {key: found(x) for key, x in judged.items()},
            n=len(held_out), value=value, tested=tested,
        )  # fmt: skip

    return [
        *rows(
            "memorisation", "Showers nearer to the training sample than held-out ones, probability",
            nearer_probability, value=0.5, tested=True,
        ),
        *rows(
            "training_distance", "Distance to the training sample over that of held-out showers, medians",
            lambda x, y: ratio_of_medians(x, y, seed=seed), value=1.0, tested=False,
        ),
    ]  # fmt: skip


def nearest_distances(points: VoxelArray, training: Showers, *, threshold: float) -> FloatArray:
    """Return the Euclidean distance of each point to the nearest training shower in log10 of energies.

    The training sample is read in pieces; single precision finds the neighbour, and its distance is
    then computed from the difference, so that a copy is at distance 0.

    Args:
        points: (n, V) as :func:`caloforge.validation.metrics.prdc.log_voxels` returns them.
        training: the showers to search.
        threshold: MeV; voxels below it count as empty.
    """
    squares = np.einsum("ij,ij->i", points, points)
    best = np.full(len(points), np.inf, np.float32)
    neighbours = np.empty_like(points)
    for chunk in training.chunks(BLOCK, threshold=threshold):
        others = log_voxels(chunk)
        distance = points @ others.T
        distance *= -2
        distance += np.einsum("ij,ij->i", others, others)
        distance += squares[:, None]
        place = distance.argmin(axis=1)
        found = distance[np.arange(len(points)), place]
        nearer = found < best
        best[nearer] = found[nearer]
        neighbours[nearer] = others[place[nearer]]
    result = np.empty(len(points))
    for i in range(0, len(points), BLOCK):
        difference = points[i : i + BLOCK].astype(np.float64) - neighbours[i : i + BLOCK]
        result[i : i + BLOCK] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return result


def nearer_probability(distances: FloatArray, held_out: FloatArray) -> Result:
    """Return the probability that a distance is below one of the held-out showers' (ties count half)."""
    n, m = len(distances), len(held_out)
    ranks = rankdata(np.concatenate([distances, held_out]))[:n]
    value = 1 - (float(ranks.sum()) - n * (n + 1) / 2) / (n * m)
    # Of no use at 0 and 1, where the formula gives no error: at least one shower in n is uncertain.
    return Result(value, max(auc_error(value, min(n, m)), 1 / min(n, m)), n=min(n, m))


def ratio_of_medians(distances: FloatArray, held_out: FloatArray, *, seed: int) -> Result:
    """Return the ratio of the medians with its bootstrap error; distances of the same showers count as equal."""
    rng = np.random.default_rng(seed)
    distances, held_out = np.maximum(distances, SAME), np.maximum(held_out, SAME)

    def medians(x: FloatArray) -> FloatArray:
        return np.median(x[rng.integers(len(x), size=(N_BOOTSTRAPS, len(x)))], axis=1)

    value = np.median(distances) / np.median(held_out)
    error = (medians(distances) / medians(held_out)).std()
    return Result(float(value), float(error), n=min(len(distances), len(held_out)), two_sided=True)
