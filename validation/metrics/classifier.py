"""How well a classifier tells generated showers from Geant4's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score, roc_curve
from threadpoolctl import threadpool_limits

from caloforge.validation.metrics.metric import FeatureMetric, SampleMetric
from caloforge.validation.metrics.result import Result, Roc

if TYPE_CHECKING:
    from caloforge.validation.metrics.sample import Sample

FloatArray = NDArray[np.float64]

ROC_POINTS = 100


@dataclass(frozen=True)
class Trees:
    """Boosted trees, and how often they are trained.

    Attributes:
        folds: trainings; each leaves out its share of the showers and judges them.
        number: trees of a training.
        learning_rate: what each tree counts.
        share: of the features that each split may use, drawn at random.
        bins: into which the values of a feature are put.
    """

    folds: int = 5
    number: int = 150
    learning_rate: float = 0.1
    share: float = 0.3
    bins: int = 127


FEATURE_TREES = Trees()
VOXEL_TREES = Trees(folds=3, number=60, learning_rate=0.15, share=0.1, bins=63)
"""For about a thousand features."""


def classifier_auc(
    reference: NDArray[np.floating], generated: NDArray[np.floating], *, seed: int = 0, trees: Trees = FEATURE_TREES
) -> Result:
    """Return the area under the ROC curve of boosted trees trained to tell the two samples apart.

    Cross-validation: every shower is judged by trees that have not seen it, and row i of both samples
    is in the same fold, as the two may have the same incident energy. Label 1 is the reference
    (Geant4). 0.5 means that the trees learnt nothing, 1 that they are always right.

    Args:
        reference: (N, d) features.
        generated: (N, d) features.
        seed: of the folds and the trees.
        trees: how many, and of what kind.

    Returns:
        The mean over folds; its error is the standard error over folds, at least that of Hanley
        and McNeil (1982) for N showers of each kind; and the curve of all folds together.
    """
    if reference.shape != generated.shape:
        raise ValueError(f"samples must have the same shape, got {reference.shape} and {generated.shape}")
    n = len(reference)
    fold_of_row = np.random.default_rng(seed).permutation(n) % trees.folds
    features, fold = np.concatenate([reference, generated]), np.tile(fold_of_row, 2)
    label = np.repeat([1, 0], n)
    score = np.empty(2 * n)
    areas = []
    for k in range(trees.folds):
        test = fold == k
        model = HistGradientBoostingClassifier(
            max_iter=trees.number, learning_rate=trees.learning_rate, max_leaf_nodes=8, max_features=trees.share,
            max_bins=trees.bins, early_stopping=False, random_state=seed,
        )  # fmt: skip
        with threadpool_limits(1, "openmp"):  # so few showers gain nothing, and threads that wait cost a lot
            model.fit(features[~test], label[~test])
            score[test] = model.predict_proba(features[test])[:, 1]
        areas.append(roc_auc_score(label[test], score[test]))
    value = float(np.mean(areas))
    scatter = float(np.std(areas, ddof=1) / np.sqrt(trees.folds))
    return Result(value, max(scatter, auc_error(value, n)), n=n, roc=roc(label, score))


def auc_error(auc: float, n: int) -> float:
    """Return the statistical error of an AUC from ``n`` events of each kind (Hanley and McNeil 1982)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    return float(np.sqrt((auc * (1 - auc) + (n - 1) * (q1 + q2 - 2 * auc**2)) / n**2))


def roc(label: NDArray[np.generic], score: FloatArray) -> Roc:
    """Return the curve of scores that rise with the chance of label 1, thinned out."""
    fpr, tpr, thresholds = roc_curve(label, score)
    thresholds[0] = 1.0  # sklearn starts at infinity, which JSON does not have; no score is above 1
    kept = np.unique(np.linspace(0, len(fpr) - 1, min(ROC_POINTS, len(fpr))).astype(int))
    return Roc(tuple(fpr[kept].tolist()), tuple(tpr[kept].tolist()), tuple(thresholds[kept].tolist()))


def _of_voxels(reference: Sample, generated: Sample, seed: int) -> dict[str, Result]:
    x, y = reference.voxel_features, generated.voxel_features
    return {"auc_low": classifier_auc(x, y, seed=seed, trees=VOXEL_TREES)}


AUC = FeatureMetric("Classifier AUC", lambda x, y, seed: classifier_auc(x, y, seed=seed))
VOXEL_AUC = SampleMetric({"auc_low": "AUC, voxels"}, _of_voxels)
