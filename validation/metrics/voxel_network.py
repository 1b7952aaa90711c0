"""A neural classifier that the quick protocol has time for, and a few thousand showers are enough for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from caloforge.validation.metrics.classifier import auc_error, roc
from caloforge.validation.metrics.metric import SampleMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample, some_rows

FloatArray = NDArray[np.float64]

FOLDS = 3
EPOCHS = 12
BATCH_SIZE = 128
WIDTH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
DROPOUT = 0.2
SHOWERS = 5000
"""Showers of each sample at most."""
SOFT = 0.05
"""MeV: from here on energies count by their logarithm."""
FARTHEST = 5.0
"""Inputs are cut at so many standard deviations."""


def network_auc(reference: NDArray[np.floating], generated: NDArray[np.floating], *, seed: int) -> Result:
    """Return the area under the ROC curve of small networks that are trained to tell two samples apart.

    Two hidden layers on inputs that are standardised by the training part. Cross-validation as of the trees
    (:func:`caloforge.validation.metrics.classifier.classifier_auc`). All trainings have as many epochs: so few
    showers leave none to choose one by.

    Args:
        reference: (N, d) features.
        generated: (N, d) features.
        seed: of folds, starts and batches.

    Returns:
        The mean over folds; its error is the standard error over folds, at least that of Hanley and McNeil (1982);
        and the curve of all folds together.
    """
    import torch  # takes its time

    n = len(reference)
    inputs, label = np.concatenate([reference, generated]).astype(np.float32), np.repeat([1, 0], n)
    rng = np.random.default_rng(seed)
    fold = np.tile(rng.permutation(n) % FOLDS, 2)
    score = np.empty(2 * n)
    areas = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        for k in range(FOLDS):
            test = fold == k
            score[test] = _trained_scores(inputs[~test], label[~test], inputs[test], rng)
            areas.append(roc_auc_score(label[test], score[test]))
    value = float(np.mean(areas))
    scatter = float(np.std(areas, ddof=1) / np.sqrt(FOLDS))
    return Result(value, max(scatter, auc_error(value, n)), n=n, roc=roc(label, score))


def _trained_scores(
    inputs: NDArray[np.float32], label: NDArray[np.int64], others: NDArray[np.float32], rng: np.random.Generator
) -> FloatArray:
    """Train one network; return the probabilities of label 1 of other inputs."""
    import torch
    from torch import nn

    mean, spread = inputs.mean(axis=0), inputs.std(axis=0) + 1e-3

    def scaled(rows: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.clip((rows - mean) / spread, -FARTHEST, FARTHEST))

    x, y = scaled(inputs), torch.from_numpy(label.astype(np.float32))
    network = nn.Sequential(
        nn.Linear(x.shape[1], WIDTH), nn.SiLU(), nn.Dropout(DROPOUT),
        nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Dropout(DROPOUT),
        nn.Linear(WIDTH, 1),
    )  # fmt: skip
    steps = EPOCHS * -(-len(x) // BATCH_SIZE)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    loss_of = nn.BCEWithLogitsLoss()
    for _ in range(EPOCHS):
        for rows in torch.split(torch.from_numpy(rng.permutation(len(x))), BATCH_SIZE):
            loss = loss_of(network(x[rows])[:, 0], y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        scores: FloatArray = torch.sigmoid(network(scaled(others))[:, 0]).double().numpy()
    return scores


def _seen(sample: Sample, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return what the networks see: what the trees see of the voxels, on a scale for sums, and the features."""
    energy, voxels = np.split(sample.voxel_features[rows], [1], axis=1)
    return np.hstack([energy, np.log1p(np.maximum(voxels, 0) / SOFT), sample.features[rows]]).astype(np.float32)


def _of_some(reference: Sample, generated: Sample, seed: int) -> dict[str, Result]:
    rows = some_rows(len(reference.summary), SHOWERS, seed=seed)
    return {"auc_network": network_auc(_seen(reference, rows), _seen(generated, rows), seed=seed)}


VOXEL_NETWORK = SampleMetric({"auc_network": "AUC, voxels and features, neural"}, _of_some)
