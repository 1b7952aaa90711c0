"""What the log-likelihood of ordinary showers is, so that one that is unusual can be told."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.models.family import Family
from caloforge.models.likelihood.log_prob import TOTAL, log_probs
from caloforge.models.tree.trend import Trend
from caloforge.showers import Conditions, Showers

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

FARTHEST = 1e3
"""Residuals in standard deviations are cut here: a shower that cannot be has minus infinity."""

FEWEST = 50
"""Showers that a calibration needs."""
MOST = 5000
"""More say no more."""


@dataclass(frozen=True)
class Calibration:
    """Log-likelihoods of showers that the generator was not trained on.

    How large they are follows from the incident energy: more hits have more factors. So each part is
    measured from a line over log E_inc, in units of its scatter there, where there are several particles from
    that of the particle.

    Attributes:
        lines: name of the part, ``total`` among them, to mean and scatter over log E_inc.
        middle: (P,) mean residual of the parts without the total.
        inverse: (P, P) inverse of their covariance.
        distance: (M,) rising, of the showers: see :meth:`distances`.
        total: (M,) rising, residuals of the total.
        codes: PDG codes of the particles, where there are several, else empty.
    """

    lines: Mapping[str, Trend]
    middle: FloatArray
    inverse: FloatArray
    distance: FloatArray
    total: FloatArray
    codes: tuple[int, ...] = ()

    @classmethod
    def fit(cls, conditions: Conditions, log_prob: Mapping[str, FloatArray], *, codes: tuple[int, ...] = ()) -> Self:
        """Fit to the conditions of M showers and the log-likelihoods (M,) of the parts and their ``total``."""
        log_energy = np.log(conditions.incident_energy)
        kinds = _kinds(conditions, codes)
        lines = {}
        for name, values in log_prob.items():
            lines[name] = Trend(len(codes))
            some = np.isfinite(values)
            lines[name].fit(log_energy[some], values[some], None if kinds is None else kinds[some])
        empty = np.empty(0)
        first = cls(lines, empty, empty, empty, empty, codes)
        residuals = first.residuals(conditions, log_prob)
        parts = np.stack([residuals[name] for name in lines if name != TOTAL], axis=1)
        covariance = np.atleast_2d(np.cov(parts.T)) + 1e-6 * np.eye(parts.shape[1])
        second = cls(lines, parts.mean(axis=0), np.linalg.inv(covariance).astype(np.float64), empty, empty)
        distance, total = np.sort(second.distances(residuals)), np.sort(residuals[TOTAL])
        return cls(lines, second.middle, second.inverse, distance, total, codes)

    def residuals(self, conditions: Conditions, log_prob: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return how many standard deviations each part is above the ordinary one of that energy, (N,) each."""
        log_energy = torch.from_numpy(np.log(conditions.incident_energy)).float()
        kinds = _kinds(conditions, self.codes)
        known = None if kinds is None else torch.from_numpy(kinds).float()
        found = {}
        for name, line in self.lines.items():
            mean, spread = (x.double().numpy() for x in line(log_energy, known))
            found[name] = np.clip((log_prob[name] - mean) / spread, -FARTHEST, FARTHEST)
        return found

    def distances(self, residuals: Mapping[str, FloatArray]) -> FloatArray:
        """Return the squared distance of Mahalanobis (1936) of the parts from the ordinary ones, (N,).

        Either way and part by part: a dead layer takes hits away, and a shower of fewer hits has fewer factors,
        so that its total may well be above the ordinary one.
        """
        off = np.stack([residuals[name] for name in self.lines if name != TOTAL], axis=1) - self.middle
        distance: FloatArray = np.einsum("ni,ij,nj->n", off, self.inverse, off)
        return distance

    def p_values(self, distances: FloatArray) -> FloatArray:
        """Return the chance that an ordinary shower is at least so far from the others, (N,), never 0."""
        m = len(self.distance)
        nearer = np.searchsorted(self.distance, distances, side="left")
        p: FloatArray = (m - nearer + 1) / (m + 1)
        return p

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "lines": {
                name: {key: value.double().tolist() for key, value in line.state_dict().items()}
                for name, line in self.lines.items()
            },
            **{name: getattr(self, name).tolist() for name in ("middle", "inverse", "distance", "total")},
            "codes": list(self.codes),
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_dict` wrote.

        Raises:
            ValueError: numbers do not fit together, or are not finite; other exceptions where they are none.
        """
        lines, codes = {}, tuple(content.get("codes", ()))
        for name, numbers in content["lines"].items():
            lines[name] = Trend(len(codes))
            lines[name].load_state_dict({key: torch.tensor(value).float() for key, value in numbers.items()})
        arrays = {key: np.asarray(content[key], np.float64) for key in ("middle", "inverse", "distance", "total")}
        n = len(lines) - 1
        if TOTAL not in lines or arrays["middle"].shape != (n,) or arrays["inverse"].shape != (n, n):
            raise ValueError(f"the parts are {', '.join(lines)}, and their middle has shape {arrays['middle'].shape}")
        if any(values.size == 0 or not np.isfinite(values).all() for values in arrays.values()):
            raise ValueError("a number is not finite, or there is none")
        return cls(lines, **arrays, codes=codes)


def _kinds(conditions: Conditions, codes: tuple[int, ...]) -> FloatArray | None:
    """Return (N, G) of 0 and 1, which particle each shower is; None where there is one."""
    if not codes:
        return None
    assert conditions.particle is not None
    kinds: FloatArray = (conditions.particle[:, None] == np.asarray(codes)).astype(np.float64)
    return kinds


def calibrate(network: Family, held_out: Showers) -> dict[str, Any] | None:
    """Return the calibration of a generator as JSON can hold it; None without a likelihood, or with too few showers.

    Args:
        network: the generator.
        held_out: showers that it was not trained on.
    """
    if not network.has_likelihood:
        return None
    n = len(held_out)
    if n < FEWEST:
        logger.warning("%d held-out showers are too few (of %d) to calibrate the likelihood: no p-values", n, FEWEST)
        return None
    chosen = held_out if n <= MOST else held_out.select(np.linspace(0, n - 1, MOST).astype(int))
    was_training = network.training
    pieces = list(log_probs(network.eval(), chosen))
    network.train(was_training)
    log_prob = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    particles = network.data.domains.get("particle")
    codes = tuple(int(code) for code in particles.values) if particles is not None else ()
    return Calibration.fit(chosen.conditions, log_prob, codes=codes if len(codes) > 1 else ()).as_dict()
