"""All metrics of a pair of samples."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from caloforge.validation.metrics.metric import DistributionMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.observables.summary import Profile, Summary, layer_groups, layer_range
from caloforge.validation.registries import DISTRIBUTION_METRICS, FEATURE_METRICS, OBSERVABLES, SAMPLE_METRICS
from caloforge.validation.significance import worst_of


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


def headlines(reference: Sample, generated: Sample, names: Collection[str], *, seed: int) -> dict[str, Result]:
    """Return some of the headline metrics alone, and what is computed along with them."""
    x, y = reference.features, generated.features
    found = {name: metric.function(x, y, seed) for name, metric in FEATURE_METRICS.items() if name in names}
    for several in SAMPLE_METRICS.values():
        if not several.labels.keys().isdisjoint(names):
            found |= several.function(reference, generated, seed)
    for name, metric in DISTRIBUTION_METRICS.items():
        if f"mean_{name}" in names:
            summaries = (reference.summary, generated.summary)
            found[f"mean_{name}"] = mean_result(distances(metric, *summaries).values())
    return found


def distances(metric: DistributionMetric, reference: Summary, generated: Summary) -> dict[str, Result]:
    """Return a metric of each observable that the geometry has, and of the voxel spectrum."""
    results = {}
    for name, observable in OBSERVABLES.items():
        pair = observable.columns(reference), observable.columns(generated)
        if pair[0].shape[1] > 0:
            places = observable.places(reference.geometry, pair[0].shape[1])
            results[name] = replace(metric.function(observable, *pair), places=places)
    results["voxel_energy"] = metric.of_profiles(reference.spectrum, generated.spectrum, len(reference))
    if reference.geometry.n_layers > 1:
        groups = [
            metric.of_profiles(x, y, len(reference))
            for x, y in zip(_spectra(reference), _spectra(generated), strict=True)
        ]
        results["voxel_energy_groups"] = replace(
            mean_result(groups),
            parts=tuple(g.value for g in groups),
            part_errors=tuple(g.error for g in groups),
            places=("groups", tuple(layer_range(group).lower() for group in layer_groups(reference.geometry))),
        )
    return results


def _spectra(summary: Summary) -> list[Profile]:
    """Return the voxel spectrum of each group of layers."""
    both = summary.group_spectra
    return [Profile(both.edges, mean, error) for mean, error in zip(both.mean, both.error, strict=True)]
