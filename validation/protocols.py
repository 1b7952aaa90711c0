"""The protocols: which metrics are computed, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

from caloforge.showers import Showers
from caloforge.validation.challenge import THRESHOLDS, compare_challenge, dataset_of
from caloforge.validation.metrics import PRDC_SHOWERS, Comparison, Sample, compare


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


PROTOCOLS: dict[str, Protocol] = {
    "quick": Protocol(
        "classifier of boosted trees on the high-level features; FPD and KPD with sample sizes that fit the number of "
        f"showers; precision, recall, density and coverage of at most {PRDC_SHOWERS} showers on log10 voxel energies; "
        "separation power in bins that span the reference, with what lies outside as bins of its own.",
        lambda samples: max(showers.threshold or 0.0 for showers in samples),
        compare,
    ),
    "challenge": Protocol(
        "CaloChallenge's thresholds, binnings (what lies outside is dropped), FPD and KPD draw for draw, precision, "
        "recall, density and coverage on log10 voxel energies. The classifier is the boosted trees of the quick "
        "protocol, not the challenge's neural networks: its AUC does not compare with published ones.",
        lambda samples: THRESHOLDS[dataset_of(samples[0].geometry)],
        compare_challenge,
    ),
}
"""By the name that ``--protocol`` takes."""
