"""What every metric gives back: a value with its error and its sample size."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Roc:
    """A receiver operating characteristic: true against false positives, thresholds falling.

    Attributes:
        fpr: fraction of generated showers taken for Geant4.
        tpr: fraction of Geant4 showers taken for Geant4.
        thresholds: scores from which on a shower is taken for Geant4; all finite.
    """

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """A metric between two samples of showers.

    Attributes:
        value: the metric.
        error: its statistical error, one standard deviation.
        n: showers in each of the two samples.
        parts: the values that ``value`` is the mean of, one per layer; empty if there is one only.
        absolute: the value in the observable's own unit, where ``value`` is in another.
        roc: the curve that the value is the area of, for a classifier.
    """

    value: float
    error: float
    n: int
    parts: tuple[float, ...] = ()
    absolute: float | None = None
    roc: Roc | None = None

    def sigma_from(self, floor: Result) -> float:
        """Return by how many standard deviations (both errors) this value lies above the floor's."""
        spread = math.hypot(self.error, floor.error)
        return (self.value - floor.value) / spread if spread > 0 else 0.0
