"""The metrics, and their application to a pair of samples: one function and one registry line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from caloforge.showers import Showers
from caloforge.validation.classifier import classifier_auc
from caloforge.validation.features import high_level_features
from caloforge.validation.frechet import fpd
from caloforge.validation.observables import OBSERVABLES, Observable
from caloforge.validation.result import Result
from caloforge.validation.separation import separation_of_profiles, separation_power
from caloforge.validation.significance import worst_of
from caloforge.validation.summary import Profile, Summary
from caloforge.validation.wasserstein import wasserstein, wasserstein_of_profiles

FloatArray = NDArray[np.float64]


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

CHALLENGE_LABELS = {
    "kpd": "KPD",
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
}
"""Names in tables of what the CaloChallenge protocol adds."""


@dataclass(frozen=True)
class Sample:
    """Showers and their summary, made with a threshold that the voxels in the file have not seen."""

    showers: Showers
    summary: Summary


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
    features = {name: metric.label for name, metric in FEATURE_METRICS.items()}
    labels = (
        features
        | CHALLENGE_LABELS
        | {f"mean_{name}": metric.mean_label for name, metric in DISTRIBUTION_METRICS.items()}
    )
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


def compare(reference: Summary, generated: Summary, *, seed: int) -> Comparison:
    """Return all metrics of ``generated`` against ``reference``, samples of the same size."""
    x, y = high_level_features(reference), high_level_features(generated)
    features = {name: metric.function(x, y, seed) for name, metric in FEATURE_METRICS.items()}
    return Comparison(
        features, {name: distances(metric, reference, generated) for name, metric in DISTRIBUTION_METRICS.items()}
    )


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
