"""The metrics: one function and one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.metrics.channels import channel_wasserstein
from caloforge.validation.metrics.classifier import VOXEL_TREES, classifier_auc
from caloforge.validation.metrics.frechet import fpd
from caloforge.validation.metrics.kernel import BATCH_SIZE, kpd
from caloforge.validation.metrics.prdc import log_voxels, prdc
from caloforge.validation.metrics.precision_recall import precision_recall
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample, some_rows
from caloforge.validation.metrics.separation import separation_of_profiles, separation_power
from caloforge.validation.metrics.wasserstein import wasserstein, wasserstein_of_profiles
from caloforge.validation.observables.registry import Observable
from caloforge.validation.observables.summary import Profile

FloatArray = NDArray[np.float64]

PRDC_SHOWERS = 2000
"""Showers of each sample that the quick protocol computes distances of: their number counts squared."""
CLUSTERED_SHOWERS = 5000
"""Showers of each sample that are clustered."""


@dataclass(frozen=True)
class FeatureMetric:
    """A metric of two samples as a whole, seen through their high-level features.

    Attributes:
        label: name in tables.
        function: (reference, generated) features and a seed to the result.
    """

    label: str
    function: Callable[[FloatArray, FloatArray, int], Result]


@dataclass(frozen=True)
class SampleMetric:
    """Metrics of two samples as a whole that need more than their features, computed together.

    Attributes:
        labels: names in tables by key.
        function: (reference, generated) samples of the same size and a seed to the results by key.
    """

    labels: Mapping[str, str]
    function: Callable[[Sample, Sample, int], Mapping[str, Result]]


@dataclass(frozen=True)
class DistributionMetric:
    """A metric of the distributions of one observable.

    Attributes:
        label: name in tables.
        mean_label: name of its mean over observables.
        function: the observable and its (reference, generated) columns to the result.
        of_profiles: (reference, generated) spectra and the number of showers to the result.
    """

    label: str
    mean_label: str
    function: Callable[[Observable, FloatArray, FloatArray], Result]
    of_profiles: Callable[[Profile, Profile, int], Result]


FEATURE_METRICS: dict[str, FeatureMetric] = {
    "auc": FeatureMetric("Classifier AUC", lambda x, y, seed: classifier_auc(x, y, seed=seed)),
    "fpd": FeatureMetric("FPD", lambda x, y, seed: fpd(x, y, seed=seed)),
    "kpd": FeatureMetric("KPD", lambda x, y, seed: kpd(x, y, seed=seed, batch_size=min(BATCH_SIZE, len(x)))),
}

CLASSIFIER_LABELS = {
    "auc_low": "AUC, voxels",
    "auc_low_normed": "AUC, voxels in layers normalised",
    "auc_high": "AUC, features, neural",
    "auc_resnet": "AUC, residual network",
    "jsd_low": "JSD, voxels",
    "jsd_low_normed": "JSD, voxels in layers normalised",
    "jsd_high": "JSD, features",
    "jsd_resnet": "JSD, residual network",
}
"""Names in tables of the classifiers on the voxels and of the challenge's neural ones."""


def _prdc_of_some(reference: Sample, generated: Sample, seed: int) -> dict[str, Result]:
    rows = some_rows(len(reference.summary), PRDC_SHOWERS, seed=seed)
    return prdc(log_voxels(reference.voxels(rows)), log_voxels(generated.voxels(rows)))


def _precision_recall(reference: Sample, generated: Sample, seed: int) -> dict[str, Result]:
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


def _channels(reference: Sample, generated: Sample, seed: int) -> dict[str, Result]:
    del seed
    return {"channel_wasserstein": channel_wasserstein(reference.channels, generated.channels)}


def _voxel_auc(reference: Sample, generated: Sample, seed: int) -> dict[str, Result]:
    x, y = reference.voxel_features, generated.voxel_features
    return {"auc_low": classifier_auc(x, y, seed=seed, trees=VOXEL_TREES)}


SAMPLE_METRICS: dict[str, SampleMetric] = {
    "prdc": SampleMetric(
        {"precision": "Precision", "recall": "Recall", "density": "Density", "coverage": "Coverage"}, _prdc_of_some
    ),
    "precision_recall": SampleMetric(
        {
            "prd_auc_features": "Precision-recall AUC, features",
            "prd_auc_voxels": "Precision-recall AUC, voxels",
        },
        _precision_recall,  # its F scores are in metrics.json and not in tables
    ),
    "channel_wasserstein": SampleMetric({"channel_wasserstein": "Wasserstein-1 of channels (MeV)"}, _channels),
    "auc_low": SampleMetric({"auc_low": CLASSIFIER_LABELS["auc_low"]}, _voxel_auc),
}

DISTRIBUTION_METRICS: dict[str, DistributionMetric] = {
    "separation": DistributionMetric(
        "Separation power",
        "Mean separation power",
        lambda observable, x, y: separation_power(x, y, log=observable.log),
        lambda x, y, n: separation_of_profiles(x, y, n=n),
    ),
    "wasserstein": DistributionMetric(
        "Wasserstein-1 (in std. dev.)",
        "Mean Wasserstein-1 (in std. dev.)",
        lambda _, x, y: wasserstein(x, y),
        lambda x, y, n: wasserstein_of_profiles(x, y, n=n),
    ),
}


def headline_labels(present: Iterable[str]) -> dict[str, str]:
    """Return the names in tables of the headline metrics that are ``present``, in their order."""
    labels = {name: metric.label for name, metric in FEATURE_METRICS.items()}
    for several in SAMPLE_METRICS.values():
        labels |= several.labels
    labels |= CLASSIFIER_LABELS | {f"mean_{name}": metric.mean_label for name, metric in DISTRIBUTION_METRICS.items()}
    names = set(present)
    return {name: label for name, label in labels.items() if name in names}
