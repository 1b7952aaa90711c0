"""The neural classifiers of CaloChallenge on a pair of samples."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from caloforge.geometry import CylindricalGeometry, Geometry
from caloforge.showers import VoxelArray
from caloforge.validation.metrics.classifier_inputs import Inputs, LowLevel, LowLevelNormalised, high_level
from caloforge.validation.metrics.neural import dense, judge, operations
from caloforge.validation.metrics.resnet import ResNet18
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.metrics.training import Training
from caloforge.validation.observables.summary import Summary

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classifier:
    """A neural classifier.

    Attributes:
        inputs: summary and (N, V) voxels in MeV to what the network sees.
        network: number of inputs and mesh to the network.
        regular_only: whether it needs layers that are all alike.
    """

    inputs: Callable[[Summary, VoxelArray], Inputs]
    network: Callable[[int, Geometry], nn.Module]
    regular_only: bool = False


def _dense(width: int, geometry: Geometry) -> nn.Module:
    del geometry
    return dense(width)


def _resnet(width: int, geometry: Geometry) -> nn.Module:
    del width
    assert isinstance(geometry, CylindricalGeometry), "as all of CaloChallenge's are"
    layer = geometry.active_layers[0]
    return ResNet18((geometry.n_layers, layer.n_alpha, layer.n_r))


CLASSIFIERS = {
    "low": Classifier(LowLevel, _dense),
    "low_normed": Classifier(LowLevelNormalised, _dense),
    "high": Classifier(lambda summary, _: high_level(summary), _dense),
    "resnet": Classifier(LowLevel, _resnet, regular_only=True),
}
"""By name; their labels are in :data:`caloforge.validation.metrics.headlines.CLASSIFIER_LABELS`."""


def classifier_results(reference: Sample, generated: Sample, *, training: Training, seed: int) -> dict[str, Result]:
    """Return AUC and divergence of each classifier that the mesh allows, ``auc_NAME`` and ``jsd_NAME``."""
    geometry = reference.summary.geometry
    chosen = {name: c for name, c in CLASSIFIERS.items() if geometry.is_regular or not c.regular_only}
    samples = [(sample.summary, sample.showers.read()) for sample in (reference, generated)]
    pairs = {name: [c.inputs(*sample) for sample in samples] for name, c in chosen.items()}
    networks = {name: partial(c.network, pairs[name][0].width, geometry) for name, c in chosen.items()}
    n = len(reference.summary)
    logger.info(
        "validate: neural classifiers %s: %d training(s) each, %d epochs of %d showers, %.3g TFLOP in double precision",
        ", ".join(chosen), training.repeats, training.epochs, 2 * training.sizes(n)[0],
        sum(operations(networks[name], pairs[name][0].width, n, training) for name in chosen) / 1e12,
    )  # fmt: skip
    found: dict[str, Result] = {}
    for name, (x, y) in pairs.items():
        judgement = judge(x, y, networks[name], name=name, training=training, seed=seed)
        found |= {f"auc_{name}": judgement.auc, f"jsd_{name}": judgement.jsd}
    return found
