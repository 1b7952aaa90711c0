"""Where a particle that comes at an angle is expected to hit: the shower's centre is judged against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.observables.per_shower import shower_centre
from caloforge.validation.observables.summary import Summary

FloatArray = NDArray[np.float64]

FORWARD = 0.7
"""From this median of abs(cos(theta)) on the detector stands across the beam, below along it."""


@dataclass(frozen=True)
class Impact:
    """The line from direction to centre of energy, as Geant4's showers follow it.

    Across the beam (FoCal) a particle from the origin hits a plane at distance d at
    d tan(theta) (cos(phi), sin(phi)), with theta = 2 atan(exp(-eta)); along it (a barrel) at
    d / tan(theta) on the beam's axis. Files do not say d, nor where the mesh has its middle, so
    both are fitted; d is 0 for a mesh that is laid around each particle's own axis (Par04).

    Attributes:
        forward: whether the detector stands across the beam.
        distance: d in mm, in effect to the depth of the showers' centre.
        middle: (2,) centre of a particle with both impact coordinates 0, mm.
    """

    forward: bool
    distance: float
    middle: FloatArray

    def centres(self, summary: Summary) -> FloatArray:
        """Return the expected centre of each shower in eta and phi, (N, 2) mm."""
        expected: FloatArray = self.middle + self.distance * _directions(summary, forward=self.forward)
        return expected


def fit_impact(reference: Summary) -> Impact | None:
    """Fit distance and middle to the reference; None where angles or the axes eta and phi are missing."""
    if reference.theta is None or reference.phi is None or not reference.geometry.transverse_layers:
        return None
    forward = bool(np.median(np.abs(np.cos(reference.theta))) > FORWARD)
    x, y = _directions(reference, forward=forward), shower_centre(reference)
    off, away = x - x.mean(axis=0), y - y.mean(axis=0)
    spread = float((off**2).sum())
    distance = float((off * away).sum()) / spread if spread > 1e-12 * len(x) else 0.0
    return Impact(forward, distance, y.mean(axis=0) - distance * x.mean(axis=0))


def expect_centres(reference: Summary, others: Mapping[str, Summary]) -> tuple[Summary, dict[str, Summary]]:
    """Return the samples with the centres that the reference's fit makes expect, if they have angles."""
    impact = fit_impact(reference)
    if impact is None or any(s.theta is None or s.phi is None for s in others.values()):
        return reference, dict(others)
    return (
        replace(reference, expected_centre=impact.centres(reference)),
        {name: replace(summary, expected_centre=impact.centres(summary)) for name, summary in others.items()},
    )


def _directions(summary: Summary, *, forward: bool) -> FloatArray:
    """Return the impact point at distance 1, (N, 2)."""
    assert summary.theta is not None
    assert summary.phi is not None
    if forward:
        point = np.tan(summary.theta) * np.stack([np.cos(summary.phi), np.sin(summary.phi)])
        return np.asarray(point.T)
    along = 1 / np.tan(np.clip(summary.theta, 1e-6, np.pi - 1e-6))
    return np.stack([along, np.zeros_like(along)], axis=1)
