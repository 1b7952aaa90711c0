"""The metrics of whole samples and the means over observables: their names in tables, in their order."""

from __future__ import annotations

from collections.abc import Iterable

from caloforge.validation.registries import DISTRIBUTION_METRICS, FEATURE_METRICS, SAMPLE_METRICS

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


def headline_labels(present: Iterable[str]) -> dict[str, str]:
    """Return the names in tables of the headline metrics that are ``present``, in their order."""
    labels = {name: metric.label for name, metric in FEATURE_METRICS.items()}
    for several in SAMPLE_METRICS.values():
        labels |= several.labels
    labels |= CLASSIFIER_LABELS | {f"mean_{name}": metric.mean_label for name, metric in DISTRIBUTION_METRICS.items()}
    names = set(present)
    return {name: label for name, label in labels.items() if name in names}
