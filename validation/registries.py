"""The doors of this floor, one line for each name. Nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.registry import Registry

if TYPE_CHECKING:
    from caloforge.validation.figures.key_figures import KeyFigure
    from caloforge.validation.figures.physics import Figure
    from caloforge.validation.metrics.metric import DistributionMetric, FeatureMetric, SampleMetric
    from caloforge.validation.observables.observable import Observable
    from caloforge.validation.protocols import Protocol

OBSERVABLES: Registry[Observable] = Registry(
    "observable",
    {
        "response": "caloforge.validation.observables.energy:RESPONSE",
        "layer_energy": "caloforge.validation.observables.energy:LAYER_ENERGY",
        "layer_share": "caloforge.validation.observables.energy:LAYER_SHARE",
        "centre_eta": "caloforge.validation.observables.shape:CENTRE_ETA",
        "centre_phi": "caloforge.validation.observables.shape:CENTRE_PHI",
        "centre_r": "caloforge.validation.observables.shape:CENTRE_R",
        "centre_residual_eta": "caloforge.validation.observables.shape:CENTRE_RESIDUAL_ETA",
        "centre_residual_phi": "caloforge.validation.observables.shape:CENTRE_RESIDUAL_PHI",
        "centre_residual_outward": "caloforge.validation.observables.shape:CENTRE_RESIDUAL_OUTWARD",
        "width_eta": "caloforge.validation.observables.shape:WIDTH_ETA",
        "width_phi": "caloforge.validation.observables.shape:WIDTH_PHI",
        "width_r": "caloforge.validation.observables.shape:WIDTH_R",
        "longitudinal_first_moment": "caloforge.validation.observables.moments:LONGITUDINAL_FIRST_MOMENT",
        "longitudinal_second_moment": "caloforge.validation.observables.moments:LONGITUDINAL_SECOND_MOMENT",
        "lateral_first_moment": "caloforge.validation.observables.moments:LATERAL_FIRST_MOMENT",
        "lateral_second_moment": "caloforge.validation.observables.moments:LATERAL_SECOND_MOMENT",
        "radius_90": "caloforge.validation.observables.shape:RADIUS_90",
        "radius_95": "caloforge.validation.observables.shape:RADIUS_95",
        "hottest_voxel_share": "caloforge.validation.observables.voxels:HOTTEST_VOXEL_SHARE",
        "empty_layers": "caloforge.validation.observables.voxels:EMPTY_LAYERS",
        "sparsity": "caloforge.validation.observables.voxels:SPARSITY",
        "number_of_voxels": "caloforge.validation.observables.voxels:NUMBER_OF_VOXELS",
        "layer_overlap": "caloforge.validation.observables.neighbours:LAYER_OVERLAP",
        "sector_kept": "caloforge.validation.observables.neighbours:SECTOR_KEPT",
        "alpha_correlation": "caloforge.validation.observables.neighbours:ALPHA_CORRELATION",
        "ring_hits": "caloforge.validation.observables.neighbours:RING_HITS",
        "neighbour_correlation": "caloforge.validation.observables.neighbours:NEIGHBOUR_CORRELATION",
    },
    group="caloforge.observables",
)
"""Numbers per shower, or per shower and layer, whose distributions are judged."""

FEATURE_METRICS: Registry[FeatureMetric] = Registry(
    "metric",
    {
        "auc": "caloforge.validation.metrics.classifier:AUC",
        "fpd": "caloforge.validation.metrics.frechet:FPD",
        "kpd": "caloforge.validation.metrics.kernel:KPD",
    },
    group="caloforge.feature_metrics",
)
"""Metrics of two samples as a whole, seen through their high-level features; a tuning may minimise each."""

SAMPLE_METRICS: Registry[SampleMetric] = Registry(
    "metric",
    {
        "prdc": "caloforge.validation.metrics.prdc:PRDC",
        "precision_recall": "caloforge.validation.metrics.precision_recall:PRECISION_RECALL",
        "channel_wasserstein": "caloforge.validation.metrics.channels:CHANNEL_WASSERSTEIN",
        "auc_low": "caloforge.validation.metrics.classifier:VOXEL_AUC",
        "auc_network": "caloforge.validation.metrics.voxel_network:VOXEL_NETWORK",
    },
    group="caloforge.sample_metrics",
)
"""Metrics of two samples as a whole that need more than their features."""

DISTRIBUTION_METRICS: Registry[DistributionMetric] = Registry(
    "metric",
    {
        "separation": "caloforge.validation.metrics.separation:SEPARATION",
        "wasserstein": "caloforge.validation.metrics.wasserstein:WASSERSTEIN",
    },
    group="caloforge.distribution_metrics",
)
"""Metrics of the distributions of each observable."""

FIGURES: Registry[Figure] = Registry(
    "figure",
    {
        "mean_response": "caloforge.validation.figures.physics:MEAN_RESPONSE",
        "response_slope": "caloforge.validation.figures.physics:RESPONSE_SLOPE",
        "mean_resolution": "caloforge.validation.figures.physics:MEAN_RESOLUTION",
        "stochastic_term": "caloforge.validation.figures.physics:STOCHASTIC_TERM",
        "noise_term": "caloforge.validation.figures.physics:NOISE_TERM",
        "constant_term": "caloforge.validation.figures.physics:CONSTANT_TERM",
        "shower_maximum": "caloforge.validation.figures.physics:SHOWER_MAXIMUM",
        "shower_maximum_slope": "caloforge.validation.figures.physics:SHOWER_MAXIMUM_SLOPE",
        "gamma_alpha": "caloforge.validation.figures.physics:GAMMA_ALPHA",
        "gamma_beta": "caloforge.validation.figures.physics:GAMMA_BETA",
        "r90": "caloforge.validation.figures.physics:R90",
        "r95": "caloforge.validation.figures.physics:R95",
    },
    group="caloforge.figures",
)
"""Physics figures; one that is NaN for the reference is left out."""

KEY_FIGURES: Registry[KeyFigure] = Registry(
    "key figure",
    {
        "response": "caloforge.validation.figures.key_figures:RESPONSE",
        "resolution": "caloforge.validation.figures.key_figures:RESOLUTION",
        "longitudinal_centre": "caloforge.validation.figures.key_figures:LONGITUDINAL_CENTRE",
        "shower_maximum": "caloforge.validation.figures.key_figures:SHOWER_MAXIMUM",
        "radius_90": "caloforge.validation.figures.key_figures:RADIUS_90",
        "hottest_voxel_share": "caloforge.validation.figures.key_figures:HOTTEST_VOXEL_SHARE",
        "number_of_voxels": "caloforge.validation.figures.key_figures:NUMBER_OF_VOXELS",
        "empty_layers": "caloforge.validation.figures.key_figures:EMPTY_LAYERS",
    },
    group="caloforge.key_figures",
)
"""All that is followed through the bins; each is drawn and, summed over bins, a test of the verdict."""

PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    {
        "quick": "caloforge.validation.protocols:QUICK",
        "challenge": "caloforge.validation.protocols:CHALLENGE",
        "challenge-ten-trainings": "caloforge.validation.protocols:CHALLENGE_TEN_TRAININGS",
        "challenge-no-networks": "caloforge.validation.protocols:CHALLENGE_NO_NETWORKS",
    },
    group="caloforge.protocols",
)
"""Ways to judge showers, by the name that ``--protocol`` takes."""
