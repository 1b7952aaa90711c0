"""Precision and recall of a distribution over clusters: what a generator invents and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from caloforge.validation.metrics.metric import SampleMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample, some_rows

FloatArray = NDArray[np.float64]

N_CLUSTERS = 20
N_CLUSTERINGS = 5
"""The paper averages ten; their scatter over the root of five is well below what showers add."""
N_SLOPES = 1001
N_BOOTSTRAPS = 20
BETA = 8
CLUSTERED_SHOWERS = 5000
"""Showers of each sample that are clustered."""


@dataclass(frozen=True)
class Curve:
    """A precision-recall curve of a distribution.

    Attributes:
        precision: (..., slopes) rising: how much of the generated is in the reference.
        recall: (..., slopes) falling: how much of the reference is in the generated.
    """

    precision: FloatArray
    recall: FloatArray

    @property
    def area(self) -> FloatArray:
        """Area under the curve, 1 for equal distributions."""
        return np.asarray(-np.trapezoid(self.precision, self.recall, axis=-1))

    def f_score(self, beta: float) -> FloatArray:
        """Return the largest F_beta on the curve: recall counts beta times as much as precision."""
        weighted = beta**2 * self.precision + self.recall
        score = (1 + beta**2) * self.precision * self.recall / np.where(weighted > 0, weighted, 1)
        best: FloatArray = score.max(axis=-1)
        return best


def curve(reference: FloatArray, generated: FloatArray) -> Curve:
    """Return the curve of two discrete distributions, equations 8 and 9 of Sajjadi et al. (2018).

    For slopes s = tan(angle): precision = sum min(s P, Q), recall = precision / s.

    Args:
        reference: (..., bins) probabilities P.
        generated: (..., bins) probabilities Q.
    """
    ends = 1e-10
    slope = np.tan(np.linspace(ends, np.pi / 2 - ends, N_SLOPES))
    precision = np.minimum(reference[..., None, :] * slope[:, None], generated[..., None, :]).sum(axis=-1)
    return Curve(np.clip(precision, 0, 1), np.clip(precision / slope, 0, 1))


def precision_recall(
    reference: NDArray[np.floating], generated: NDArray[np.floating], *, seed: int
) -> dict[str, Result]:
    """Return area and F scores of the curve of Sajjadi et al. (2018, arXiv:1806.00035).

    The union of both samples is clustered by k-means (20 clusters, in mini-batches), and the shares
    of both samples in the clusters are compared; the mean of several clusterings counts, as in the paper.

    Args:
        reference: (N, d) points.
        generated: (M, d) points, on the same scale.
        seed: of the clusterings.

    Returns:
        ``auc``; ``f8``, which sees what is left out; ``f1_8``, which sees what is invented. The errors
        combine the scatter of the clusterings with a bootstrap of the points. Equal samples of finite
        size stay below 1: compare with the floor.
    """
    union = np.concatenate([reference, generated]).astype(np.float32)
    n, m = len(reference), len(generated)
    rng = np.random.default_rng(seed)
    with threadpool_limits(1, "openmp"):  # so few clusters gain nothing from threads
        places = [_clusters(union, int(rng.integers(2**31))) for _ in range(N_CLUSTERINGS)]
    several = _scores(curve(*(_shares(places, np.ones((1, size)), start) for size, start in ((n, 0), (m, n)))))
    drawn = [rng.multinomial(size, np.full(size, 1 / size), N_BOOTSTRAPS).astype(np.float64) for size in (n, m)]
    bootstrap = _scores(curve(*(_shares(places, counts, start) for counts, start in zip(drawn, (0, n), strict=True))))
    results = {}
    for name, values in several.items():
        scatter = values.std(ddof=1) / np.sqrt(N_CLUSTERINGS)
        error = np.hypot(bootstrap[name].mean(axis=0).std(ddof=1), scatter)
        results[name] = Result(float(values.mean()), float(error), n=min(n, m), two_sided=True)
    return results


def _shares(places: Sequence[NDArray[np.int32]], counts: FloatArray, start: int) -> FloatArray:
    """Return the share of showers in each cluster, (clusterings, draws, clusters).

    Args:
        places: the cluster of each point of the union, for each clustering.
        counts: (draws, n) how often each of the n points from ``start`` on counts.
        start: first point of the sample.
    """
    n = counts.shape[1]
    inside = np.stack([np.equal.outer(np.arange(N_CLUSTERS), place[start : start + n]) for place in places])
    shares: FloatArray = np.einsum("ckn,dn->cdk", inside.astype(np.float64), counts / n, optimize=True)
    return shares


def _clusters(points: NDArray[np.float32], seed: int) -> NDArray[np.int32]:
    """Return the cluster of each point."""
    k = min(N_CLUSTERS, len(points))
    means = MiniBatchKMeans(k, batch_size=1024, init_size=max(256, k), n_init=1, max_iter=3, random_state=seed)
    labels: NDArray[np.int32] = means.fit(points).labels_
    return labels


def _scores(found: Curve) -> Mapping[str, FloatArray]:
    return {"auc": found.area, "f8": found.f_score(BETA), "f1_8": found.f_score(1 / BETA)}


def _of_samples(reference: Sample, generated: Sample, seed: int) -> dict[str, Result]:
    """Cluster the standardised features and the energies of voxels of some showers."""
    rows = some_rows(len(reference.summary), CLUSTERED_SHOWERS, seed=seed)
    x, y = reference.features[rows], generated.features[rows]
    scale = x.std(axis=0)
    scale[scale == 0] = 1.0
    found = {
        "features": precision_recall(x / scale, y / scale, seed=seed),
        "voxels": precision_recall(reference.voxels(rows), generated.voxels(rows), seed=seed),
    }
    return {f"prd_{score}_{space}": result for space, scores in found.items() for score, result in scores.items()}


PRECISION_RECALL = SampleMetric(
    {
        "prd_auc_features": "Precision-recall AUC, features",
        "prd_auc_voxels": "Precision-recall AUC, voxels",
    },
    _of_samples,  # its F scores are in metrics.json and not in tables
)
