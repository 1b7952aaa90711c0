"""The metrics, and their application to a pair of samples: one function and one registry line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from caloforge.showers import Showers, VoxelArray
from caloforge.validation.metrics.channels import channel_wasserstein, checkerboard_channels
from caloforge.validation.metrics.classifier import VOXEL_TREES, classifier_auc
from caloforge.validation.metrics.frechet import fpd
from caloforge.validation.metrics.kernel import BATCH_SIZE, kpd
from caloforge.validation.metrics.prdc import log_voxels, prdc
from caloforge.validation.metrics.precision_recall import precision_recall
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.separation import separation_of_profiles, separation_power
from caloforge.validation.metrics.voxel_features import voxel_features
from caloforge.validation.metrics.wasserstein import wasserstein, wasserstein_of_profiles
from caloforge.validation.observables.features import high_level_features
from caloforge.validation.observables.registry import OBSERVABLES, Observable
from caloforge.validation.observables.summary import Profile, Summary
from caloforge.validation.significance import worst_of

FloatArray = NDArray[np.float64]

PRDC_SHOWERS = 2000
"""Showers of each sample that the quick protocol computes distances of: their number counts squared."""
CLUSTERED_SHOWERS = 5000
"""Showers of each sample that are clustered."""


@dataclass(frozen=True)
class Sample:
    """Showers and their summary, made with a threshold that the voxels in the file have not seen."""

    showers: Showers
    summary: Summary

    @cached_property
    def features(self) -> FloatArray:
        """The high-level features of CaloChallenge, (N, d)."""
        return high_level_features(self.summary)

    @property
    def channels(self) -> FloatArray:
        """Energies of the layers; of a mesh of one layer those of a checkerboard over its cells, (N, channels) MeV."""
        layer, *others = self.summary.geometry.active_layers
        if others or min(layer.n_alpha, layer.n_r) < 2:
            return self.summary.layer_energy
        shape = (layer.n_alpha, layer.n_r)
        threshold = self.summary.threshold
        return np.concatenate(
            [
                checkerboard_channels(np.where(chunk < threshold, 0, chunk).reshape(-1, *shape))
                for chunk in self.showers.chunks()
            ]
        )

    @cached_property
    def voxel_features(self) -> NDArray[np.float32]:
        """log10 E_inc and what the trees see of the voxels, (N, d): far fewer numbers than voxels."""
        threshold = np.float32(self.summary.threshold)
        chunks = (np.where(chunk < threshold, np.float32(0), chunk) for chunk in self.showers.chunks())
        energy = np.log10(self.summary.incident_energy[:, None]).astype(np.float32)
        return np.hstack([energy, voxel_features(chunks, self.summary.geometry)])

    def voxels(self, rows: NDArray[np.int64] | None = None) -> VoxelArray:
        """Read some of the showers, or all, with the threshold applied: (n, V) float32 MeV."""
        voxels = (self.showers if rows is None else self.showers.select(rows)).read()
        voxels[voxels < self.summary.threshold] = 0
        return voxels


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


@dataclass(frozen=True)
class Comparison:
    """All metrics of one sample against the reference.

    Attributes:
        features: by name of the feature metric.
        distributions: by name of the distribution metric, then of the observable.
    """

    features: Mapping[str, Result]
    distributions: Mapping[str, Mapping[str, Result]]

    @property
    def headline(self) -> dict[str, Result]:
        """The feature metrics, and the mean over observables of each distribution metric."""
        means = {f"mean_{name}": mean_result(results.values()) for name, results in self.distributions.items()}
        return {**self.features, **means}

    def sigmas_from(self, floor: Comparison) -> dict[str, float]:
        """Return by how many standard deviations each headline metric lies above the floor's.

        For a mean it is that of the worst observable, corrected for their number.
        """
        features = {name: result.sigma_from(floor.features[name]) for name, result in self.features.items()}
        means = {
            f"mean_{name}": worst_of(
                [result.sigma_from(floor.distributions[name][key]) for key, result in results.items()]
            )
            for name, results in self.distributions.items()
        }
        return features | means


def headline_labels(present: Iterable[str]) -> dict[str, str]:
    """Return the names in tables of the headline metrics that are ``present``, in their order."""
    labels = {name: metric.label for name, metric in FEATURE_METRICS.items()}
    for several in SAMPLE_METRICS.values():
        labels |= several.labels
    labels |= CLASSIFIER_LABELS | {f"mean_{name}": metric.mean_label for name, metric in DISTRIBUTION_METRICS.items()}
    names = set(present)
    return {name: label for name, label in labels.items() if name in names}


def mean_result(results: Iterable[Result]) -> Result:
    """Return the mean of several results; its error takes them as fully correlated, an upper bound."""
    values = list(results)
    return Result(
        float(np.mean([result.value for result in values])),
        float(np.mean([result.error for result in values])),
        n=values[0].n,
    )


def compare(reference: Sample, generated: Sample, *, seed: int) -> Comparison:
    """Return all metrics of ``generated`` against ``reference``, samples of the same size."""
    x, y = reference.features, generated.features
    features = {name: metric.function(x, y, seed) for name, metric in FEATURE_METRICS.items()}
    for several in SAMPLE_METRICS.values():
        features |= several.function(reference, generated, seed)
    return Comparison(
        features,
        {
            name: distances(metric, reference.summary, generated.summary)
            for name, metric in DISTRIBUTION_METRICS.items()
        },
    )


def some_rows(n: int, most: int, *, seed: int) -> NDArray[np.int64]:
    """Return the rising numbers of at most ``most`` of n showers, chosen at random.

    The same of both samples are to be taken: generated showers have the incident energies of the
    reference's rows.
    """
    return np.sort(np.random.default_rng(seed).permutation(n)[:most])


def distances(metric: DistributionMetric, reference: Summary, generated: Summary) -> dict[str, Result]:
    """Return a metric of each observable that the geometry has, and of the voxel spectrum."""
    results = {}
    for name, observable in OBSERVABLES.items():
        pair = observable.columns(reference), observable.columns(generated)
        if pair[0].shape[1] > 0:
            results[name] = metric.function(observable, *pair)
    results["voxel_energy"] = metric.of_profiles(reference.spectrum, generated.spectrum, len(reference))
    if reference.geometry.n_layers > 1:
        groups = [
            metric.of_profiles(x, y, len(reference))
            for x, y in zip(_spectra(reference), _spectra(generated), strict=True)
        ]
        results["voxel_energy_groups"] = replace(
            mean_result(groups), parts=tuple(g.value for g in groups), part_errors=tuple(g.error for g in groups)
        )
    return results


def _spectra(summary: Summary) -> list[Profile]:
    """Return the voxel spectrum of each group of layers."""
    both = summary.group_spectra
    return [Profile(both.edges, mean, error) for mean, error in zip(both.mean, both.error, strict=True)]
