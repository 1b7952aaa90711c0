"""Weights that make fast showers count as full ones: the odds of a calibrated classifier."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from caloforge.errors import InputError
from caloforge.hdf5_output import Hdf5Output
from caloforge.outputs import result_file
from caloforge.showers import Showers
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.observables.conditions import with_shared_conditions
from caloforge.validation.observables.summary import summarise

FloatArray = NDArray[np.float64]

FOLDS = 5
FEWEST = 100
LARGEST = 20.0
"""Weights are clipped here; their mean is 1. A few showers with huge ones would be most of the sample."""
BINS = 10
_EDGE = 1e-6


@dataclass(frozen=True)
class Weights:
    """Weights of N fast showers, and how far to trust them.

    Attributes:
        values: (N,) w = p / (1 - p), corrected for the sizes of the samples, clipped at :data:`LARGEST`.
        probability: (N,) p, the calibrated chance that the shower is a full one if both are as many.
        clipped: (N,) which weights were clipped.
        auc: of the classifier.
        predicted: (bins,) mean chance of showers of both samples in bins of it.
        observed: (bins,) share of full showers among them.
        observed_error: (bins,) its statistical error.
        separation: mean separation power of the features that the classifier sees, before.
        separation_weighted: the same with the weights.
    """

    values: FloatArray
    probability: FloatArray
    clipped: NDArray[np.bool_]
    auc: float
    predicted: FloatArray
    observed: FloatArray
    observed_error: FloatArray
    separation: float
    separation_weighted: float

    @property
    def effective(self) -> float:
        """Number of showers without weights that would say as much: (sum w)^2 / sum w^2 (Kish 1965)."""
        return float(self.values.sum() ** 2 / np.square(self.values).sum())

    @property
    def kept(self) -> float:
        """Share of showers that unweighting would keep, drawing each with the chance w / max w."""
        return float(self.values.mean() / self.values.max())

    @property
    def calibration_error(self) -> float:
        """Mean distance of predicted and observed shares, weighted with the showers (they are as many in each bin)."""
        return float(np.abs(self.predicted - self.observed).mean())

    def figures(self) -> dict[str, float]:
        """Return the numbers that sum them up."""
        return {
            "showers": float(len(self.values)),
            "auc": self.auc,
            "effective": self.effective,
            "effective_share": self.effective / len(self.values),
            "kept_by_unweighting": self.kept,
            "clipped": float(self.clipped.sum()),
            "largest": float(self.values.max()),
            "mean": float(self.values.mean()),
            "calibration_error": self.calibration_error,
            "separation": self.separation,
            "separation_weighted": self.separation_weighted,
        }


def classifier_weights(full: Showers, fast: Showers, *, threshold: float, seed: int = 0) -> Weights:
    """Return weights of fast showers, see :func:`density_ratio`.

    Trees see the high-level features of CaloChallenge and those of the quick protocol's classifier on voxels.

    Args:
        full: showers of the full simulation.
        fast: showers of the fast simulation.
        threshold: MeV; smaller voxel energies count as 0.
        seed: of folds and trees.

    Raises:
        InputError: there are too few showers.
    """
    for showers in (full, fast):
        if len(showers) < FEWEST:
            raise InputError(f"{showers.path}: {len(showers)} showers; weights need {FEWEST} or more of each sample")
    summaries = with_shared_conditions([summarise(showers, threshold=threshold) for showers in (full, fast)])
    samples = [Sample(showers, summary) for showers, summary in zip((full, fast), summaries, strict=True)]
    ours, theirs = (np.hstack([sample.features, sample.voxel_features]) for sample in samples)
    return density_ratio(ours, theirs, seed=seed)


def density_ratio(full: FloatArray, fast: FloatArray, *, seed: int) -> Weights:
    """Return weights of fast points from boosted trees that tell them from full ones.

    w(x) = p(x) / (1 - p(x)) n_fast / n_full is the ratio of the densities (Cranmer et al., arXiv:1506.02169; Diefenbacher
    et al., arXiv:2009.03796). Every point is judged by trees that have not seen it, and these scores are calibrated by
    a logistic regression on those of the other folds (Platt 1999), which cannot give 0 or 1.

    Args:
        full: (M, d) features of full showers.
        fast: (N, d) features of fast ones.
        seed: of folds and trees.
    """
    n_full, n_fast = len(full), len(fast)
    features, label = np.concatenate([full, fast]), np.repeat([1, 0], [n_full, n_fast])
    rng = np.random.default_rng(seed)
    fold = np.concatenate([rng.permutation(n) % FOLDS for n in (n_full, n_fast)])
    score = np.empty(len(label))
    for k in range(FOLDS):
        test = fold == k
        # Trees that end before they learn by heart are calibrated but for a little.
        model = HistGradientBoostingClassifier(
            max_iter=400, learning_rate=0.08, max_leaf_nodes=8, max_features=0.3, max_bins=63, early_stopping=True,
            validation_fraction=0.2, n_iter_no_change=10, random_state=seed,
        )  # fmt: skip
        with threadpool_limits(1, "openmp"):
            model.fit(features[~test], label[~test])
            score[test] = model.decision_function(features[test])
    chance = np.empty(len(label))
    for k in range(FOLDS):
        test = fold == k
        platt = LogisticRegression(C=1e6).fit(score[~test, None], label[~test])
        chance[test] = platt.predict_proba(score[test, None])[:, 1]
    chance = np.clip(chance, _EDGE, 1 - _EDGE)
    odds = chance / (1 - chance) * (n_fast / n_full)
    values = odds[n_full:]
    clipped = values > LARGEST
    values = np.minimum(values, LARGEST)
    chance = odds / (1 + odds)  # if both samples were as large
    balance = np.repeat([1 / n_full, 1 / n_fast], [n_full, n_fast])
    predicted, observed, error = _calibration(chance, label, balance)
    before, after = (_separation(full, fast, w) for w in (np.ones(n_fast), values))
    return Weights(
        values, chance[n_full:], clipped, float(roc_auc_score(label, score)), predicted, observed, error, before, after
    )


def write_weights(weights: Weights, fast: Showers, output: Path, *, attributes: dict[str, Any]) -> None:
    """Write ``weights``, ``probability`` and ``clipped``, a row for each shower of the file, and figures as attributes."""
    with result_file(output, inputs=[fast.path]) as temporary, closing(Hdf5Output(temporary)) as disk:
        with h5py.File(disk, "w") as file:
            file["weights"], file["probability"], file["clipped"] = weights.values, weights.probability, weights.clipped
            file.attrs["file"] = fast.path.name
            file.attrs.update({**weights.figures(), **attributes})
        disk.check()


def _calibration(
    chance: FloatArray, label: NDArray[np.int64], balance: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean chance, share of full showers and its error in bins of the chance with as many showers each."""
    found = []
    for rows in np.array_split(np.argsort(chance, kind="stable"), BINS):
        w = balance[rows]
        share = float((w * label[rows]).sum() / w.sum())
        n = w.sum() ** 2 / np.square(w).sum()
        found.append(((w * chance[rows]).sum() / w.sum(), share, np.sqrt(max(share * (1 - share), 1 / n**2) / n)))
    predicted, observed, error = np.array(found).T
    return predicted, observed, error


def _separation(full: FloatArray, fast: FloatArray, weights: FloatArray) -> float:
    """Return the mean separation power 1/2 sum (h - g)^2 / (h + g) of features, in bins with as many full showers each."""
    found = []
    for x, y in zip(full.T, fast.T, strict=True):
        edges = np.unique(np.quantile(x, np.linspace(0, 1, 21)[1:-1]))
        h = np.bincount(np.searchsorted(edges, x, side="right"), minlength=len(edges) + 1) / len(x)
        g = np.bincount(np.searchsorted(edges, y, side="right"), weights, minlength=len(edges) + 1) / weights.sum()
        total = h + g
        found.append(0.5 * np.sum(np.square(h - g)[total > 0] / total[total > 0]))
    return float(np.mean(found))
