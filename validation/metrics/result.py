"""What every metric gives back: a value with its error and its sample size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from caloforge.validation.significance import either_way, worst_of


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
        part_errors: their errors.
        places: what the parts are, in the plural, and the name of each.
        absolute: the value in the observable's own unit, where ``value`` is in another.
        roc: the curve that the value is the area of, for a classifier.
        sampling: what other showers would change it by, where the error as published leaves that
            out; it counts in distances.
        two_sided: a value below the floor's is as bad as one above it.
        floor: the value between two samples of Geant4 of that size, if it was asked for.
        floor_error: its statistical error.
        sigma: by how many standard deviations the value lies above the floor.
    """

    value: float
    error: float
    n: int
    parts: tuple[float, ...] = ()
    part_errors: tuple[float, ...] = ()
    places: tuple[str, tuple[str, ...]] = ("", ())
    absolute: float | None = None
    roc: Roc | None = None
    sampling: float = 0.0
    two_sided: bool = False
    floor: float | None = None
    floor_error: float | None = None
    sigma: float | None = None

    def beside(self, floor: Result) -> Result:
        """Return this result with its floor and its distance from it."""
        return replace(self, floor=floor.value, floor_error=floor.error, sigma=self.sigma_from(floor))

    def sigma_from(self, floor: Result) -> float:
        """Return by how many standard deviations (both errors) this value lies above the floor's.

        Of a two-sided metric it is the distance either way, expressed as the one-sided number of
        standard deviations that is as improbable.

        With several parts it is that of the worst part, corrected for their number: one bad layer
        among many good ones hardly moves the mean.
        """
        if not self.parts:
            sigma = _sigma(self.value, self._spread, floor.value, floor._spread)
            return either_way(sigma) if self.two_sided else sigma
        return worst_of(self._part_sigmas(floor))

    def worst_part(self, floor: Result) -> int:
        """Return which part lies furthest above the floor's."""
        sigmas = self._part_sigmas(floor)
        return sigmas.index(max(sigmas))

    @property
    def _spread(self) -> float:
        return math.hypot(self.error, self.sampling)

    def _part_sigmas(self, floor: Result) -> list[float]:
        rows = zip(self.parts, self.part_errors, floor.parts, floor.part_errors, strict=True)
        return [_sigma(*row) for row in rows]


def _sigma(value: float, error: float, floor: float, floor_error: float) -> float:
    spread = math.hypot(error, floor_error)
    return (value - floor) / spread if spread > 0 else 0.0
