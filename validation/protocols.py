"""The protocols: which metrics are computed, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol as Interface

from caloforge.showers import Showers
from caloforge.validation.metrics.challenge import THRESHOLDS, compare_challenge, dataset_of
from caloforge.validation.metrics.compare import Comparison, compare
from caloforge.validation.metrics.prdc import SHOWERS
from caloforge.validation.metrics.sample import Sample


class Compare(Interface):
    """All metrics of a generated sample against a reference of the same size."""

    def __call__(self, reference: Sample, generated: Sample, *, seed: int) -> Comparison:
        """Compare the two samples."""


@dataclass(frozen=True)
class Protocol:
    """A way to judge showers.

    Attributes:
        description: what it does, in a sentence or two.
        threshold: takes all samples to the energy in MeV below which voxels count as empty.
        compare: the metrics of a pair of samples.
    """

    description: str
    threshold: Callable[[Sequence[Showers]], float]
    compare: Compare


_NETWORKS = (
    "Neural classifiers with the challenge's inputs, architectures and training: double precision, Adam at 2e-4, "
    "batches of 1000, at most 50 epochs, the epoch of the best accuracy, isotonic calibration, AUC and JSD on showers "
    "kept aside. Two things differ from its script: showers of the same row are in the same split in both samples, "
    "as they may have the same incident energy; and other numbers of showers than the published ones are split in "
    "the published proportions."
)


def _challenge(classifiers: str, *, repeats: int) -> Protocol:
    return Protocol(
        "CaloChallenge's thresholds, binnings (what lies outside is dropped), FPD and KPD draw for draw, precision, "
        "recall, density and coverage on log10 voxel energies. The classifier on features called just AUC is the "
        f"boosted trees of the quick protocol. {classifiers}",
        lambda samples: THRESHOLDS[dataset_of(samples[0].geometry)],
        partial(compare_challenge, repeats=repeats),
    )


QUICK = Protocol(
    "classifiers of boosted trees, cross-validated: five trainings on the high-level features, three on the voxels "
    "(rings, hits, hottest voxels and overlaps of neighbours in each layer); three small networks on both; FPD and KPD with sample sizes that fit the number of "
    f"showers; precision, recall, density and coverage of at most {SHOWERS} showers on log10 voxel energies; "
    "separation power in bins that span the reference, with what lies outside as bins of its own.",
    lambda samples: max(showers.threshold or 0.0 for showers in samples),
    compare,
)

CHALLENGE = _challenge(
    f"{_NETWORKS} One training of each, as the challenge's script has it; its published tables have ten.", repeats=1
)

CHALLENGE_TEN_TRAININGS = _challenge(
    f"{_NETWORKS} Mean and spread of ten trainings of each, as in its published tables.", repeats=10
)

CHALLENGE_NO_NETWORKS = _challenge(
    "The challenge's neural classifiers are left out, which need a GPU or hours to days: no AUC here compares with "
    "its published ones.",
    repeats=0,
)
