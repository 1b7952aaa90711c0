"""First stage: whether a shower has hits at all, how many, and its energy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from caloforge.draws import Draws
from caloforge.models.family import TrainableModel
from caloforge.models.tree import splits
from caloforge.models.tree.row_mlp import RowMLP, spread_components
from caloforge.models.tree.splits import MIN_FREE
from caloforge.models.tree.trend import Trend

COMPONENTS = 3
WIDTH = 32
NOISE = 3
"""Numbers per shower: gate, hits, energy."""


class Totals(TrainableModel):
    """p(N, E | conditions).

    P(N = 0) is a gate; N >= 1 is a mixture of logistics in log N, cut to whole numbers up to the number
    of voxels; then log (E - N t) is a mixture of logistics, so that no hit can be below the threshold.
    Both are measured from a :class:`Trend` over the incident energy, in units of its spread, each kind of particle
    from its own.
    """

    betas = (0.9, 0.98)
    exact = True
    any_empty: Tensor
    mean_response: Tensor

    def __init__(self, n_voxels: int, n_conditions: int, *, threshold: float, n_kinds: int = 0) -> None:
        """Make the networks.

        Args:
            n_voxels: V.
            n_conditions: encoded conditions C.
            threshold: MeV.
            n_kinds: particles, whose columns are the last of the encoded conditions; 0 where there is one.
        """
        super().__init__()
        self.n_voxels, self.threshold, self.n_kinds = n_voxels, threshold, n_kinds
        self.hits_trend, self.energy_trend = Trend(n_kinds), Trend(n_kinds)
        self.register_buffer("any_empty", torch.tensor(0.0))
        self.register_buffer("mean_response", torch.ones(n_kinds) if n_kinds else torch.tensor(1.0))
        self.gate = RowMLP(n_conditions, WIDTH, 1)
        self.hits = RowMLP(n_conditions, WIDTH, 3 * COMPONENTS)
        self.energy = RowMLP(n_conditions + 1, WIDTH, 3 * COMPONENTS)
        for network in (self.hits, self.energy):
            spread_components(network, slice(COMPONENTS, 2 * COMPONENTS), -0.5, 0.5)
            spread_components(network, slice(2 * COMPONENTS, 3 * COMPONENTS), -0.8, -0.4)

    def fit(
        self,
        incident: NDArray[np.float64],
        hits: NDArray[np.float64],
        energy: NDArray[np.float64],
        kinds: NDArray[np.float64] | None = None,
    ) -> None:
        """Fit the trends to (N,) training showers: E_inc in MeV, hits, energy in MeV, and their kinds (N, G)."""
        self.any_empty.fill_(float((hits == 0).any()))
        response = energy / incident
        rows = np.ones((1, len(response)), bool) if kinds is None else kinds.T > 0
        means = [response[some].mean() if some.any() else response.mean() for some in rows]
        self.mean_response.copy_(torch.tensor(means, dtype=torch.float32).reshape(self.mean_response.shape))
        some = hits > 0
        log_incident, kinds = np.log(incident[some]), kinds if kinds is None else kinds[some]
        self.hits_trend.fit(log_incident, np.log(hits[some]), kinds)
        free = np.maximum(energy[some] - hits[some] * self.threshold, MIN_FREE)
        self.energy_trend.fit(log_incident, np.log(free), kinds)

    def _kinds(self, conditions: Tensor) -> Tensor | None:
        """Return the columns of the particles among encoded conditions; None where there is one."""
        return conditions[:, -self.n_kinds :] if self.n_kinds else None

    def forward(self, part: str, batch: Any, draws: Draws) -> Tensor:
        """Return the negative log-likelihood per shower of (E_inc, conditions, hits, energy)."""
        return -self.log_prob(*batch, density=False).mean()

    def log_prob(self, incident: Tensor, conditions: Tensor, hits: Tensor, energy: Tensor, *, density: bool) -> Tensor:
        """Return log p(N, E), (B,).

        Args:
            incident: (B,) MeV.
            conditions: (B, C) encoded.
            hits: (B,) N.
            energy: (B,) MeV.
            density: per MeV; without it per unit of the standardised logarithm.
        """
        log_incident, kinds = torch.log(incident), self._kinds(conditions)
        some = hits > 0
        gate = self.gate(conditions)[:, 0]
        log_some, log_none = (
            torch.where(self.any_empty > 0, F.logsigmoid(x), none)
            for x, none in ((-gate, torch.zeros_like(gate)), (gate, torch.full_like(gate, -torch.inf)))
        )
        n = hits.clamp_min(1)
        mean, spread = self.hits_trend(log_incident, kinds)
        low, high, first, last = (
            (torch.log(x) - mean) / spread
            for x in (n - 0.5, n + 0.5, torch.full_like(n, 0.5), torch.full_like(n, self.n_voxels + 0.5))
        )
        logits, centre, width = self.hits(conditions).chunk(3, 1)
        scale = torch.exp(width.clamp(-5, 3))
        at = [(x[:, None] - centre) / scale for x in (low, high, first, last)]
        log_n = torch.logsumexp(
            torch.log_softmax(logits, 1) + splits.log_difference(at[1], at[0]) - splits.log_difference(at[3], at[2]),
            1,
        )
        free = (energy - n * self.threshold).clamp_min(MIN_FREE)
        mean_e, spread_e = self.energy_trend(log_incident, kinds)
        y = (torch.log(free) - mean_e) / spread_e
        numbers = self.energy(torch.cat([conditions, self.hits_residual(incident, conditions, n)[:, None]], 1))
        log_e = splits.share_log_prob(numbers, torch.zeros_like(centre), y)
        if density:
            log_e = log_e - torch.log(spread_e) - torch.log(free)
        return torch.where(some, log_some + log_n + log_e, log_none)

    def draw(self, incident: Tensor, conditions: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return hits and energies in MeV, (B,) each, of uniform numbers (B, 3)."""
        log_incident, kinds = torch.log(incident), self._kinds(conditions)
        empty = (self.any_empty > 0) & (u[:, 0] < splits.logistic(self.gate(conditions)[:, 0]))
        logits, centre, width = self.hits(conditions).chunk(3, 1)
        mean, spread = self.hits_trend(log_incident, kinds)
        j, v = splits.choose(logits, u[:, 1])
        centre, scale = centre.gather(1, j)[:, 0], torch.exp(width.clamp(-5, 3)).gather(1, j)[:, 0]
        first, last = (
            splits.logistic(((torch.log(torch.full_like(mean, x)) - mean) / spread - centre) / scale)
            for x in (0.5, self.n_voxels + 0.5)
        )
        y = centre + scale * torch.logit((first + v * (last - first)).clamp(1e-7, 1 - 1e-7))
        n = torch.round(torch.exp(mean + spread * y)).clamp(1, self.n_voxels)
        mean, spread = self.energy_trend(log_incident, kinds)
        numbers = self.energy(torch.cat([conditions, self.hits_residual(incident, conditions, n)[:, None]], 1))
        y = splits.share_draw(numbers, torch.zeros_like(numbers[:, :COMPONENTS]), u[:, 2])
        energy = n * self.threshold + torch.exp(mean + spread * y)
        zero = torch.zeros_like(n)
        return torch.where(empty, zero, n), torch.where(empty, zero, energy)

    def hits_residual(self, incident: Tensor, conditions: Tensor, hits: Tensor) -> Tensor:
        """Return how far hits (B,) are from their trend, in units of its spread, within +-5."""
        mean, spread = self.hits_trend(torch.log(incident), self._kinds(conditions))
        residual: Tensor = (torch.log(hits.clamp_min(0.5)) - mean) / spread
        return residual.clamp(-5, 5)

    def features(self, incident: Tensor, conditions: Tensor, hits: Tensor, energy: Tensor) -> Tensor:
        """Return (B, 2) numbers of order one that tell later stages of this one's result."""
        kinds = self._kinds(conditions)
        usual = self.mean_response if kinds is None else kinds @ self.mean_response
        response = 10 * (energy / (incident * usual) - 1)
        return torch.stack([response.clamp(-5, 5), 0.5 * self.hits_residual(incident, conditions, hits)], 1)
