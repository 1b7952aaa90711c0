"""The two conditional distributions of a split, on rows: one row per split of a shower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.family import TrainableModel
from caloforge.models.tree import splits
from caloforge.models.tree.context import hits_feature
from caloforge.models.tree.row_mlp import RowMLP, spread_components
from caloforge.models.tree.spectrum import PEAKS, QUANTILES, HitSpectrum

FREE_COMPONENTS = 4
"""Components of the energy share that are not tied to a landmark of the hit spectrum."""

COMPONENTS = FREE_COMPONENTS + 2 * PEAKS


@dataclass(frozen=True)
class Rows:
    """Nodes with hits that are to be split.

    Attributes:
        x: (R, F) what the networks see.
        energy: (R,) MeV of the node.
        hits: (R,) of the node, at least 1.
        prior: (R, classes) log of the number of ways to place the hits.
    """

    x: Tensor
    energy: Tensor
    hits: Tensor
    prior: Tensor


class Observed:
    """Rows with what happened: how the nodes of some showers were split.

    Attributes:
        rows: the nodes.
        first_hits: (R,) of the first half.
        first_energy: (R,) MeV of the first half.
        shower: (R,) number of the shower.
        n_showers: B.
    """

    def __init__(self, rows: Rows, first_hits: Tensor, first_energy: Tensor, shower: Tensor, n_showers: int) -> None:
        self.rows, self.first_hits, self.first_energy = rows, first_hits, first_energy
        self.shower, self.n_showers = shower, n_showers


class SplitNetworks(TrainableModel):
    """Hits of the first half given all that is seen, then its share of the free energy given its hits."""

    betas = (0.9, 0.98)

    def __init__(self, n_features: int, classes: int, *, width: int, threshold: float) -> None:
        """Build the networks.

        Args:
            n_features: F.
            classes: numbers of hits of a first half, from 0.
            width: of the hidden layers.
            threshold: MeV.
        """
        super().__init__()
        self.threshold = threshold
        self.spectrum = HitSpectrum()
        self.counts = RowMLP(n_features, width, classes)
        self.shares = RowMLP(n_features + 3 + 2 * len(QUANTILES), width, 3 * COMPONENTS)
        spread_components(self.shares, slice(COMPONENTS, COMPONENTS + FREE_COMPONENTS), -1.5, 1.5)

    def forward(self, part: str, batch: Any, draws: Draws) -> Tensor:
        """Return the negative log-likelihood per shower of :class:`Observed` splits."""
        return -self.log_prob(batch, density=False).mean()

    def log_prob(self, observed: Observed, *, density: bool) -> Tensor:
        """Return the log-probability of what happened, summed per shower, (B,).

        Args:
            observed: the splits.
            density: per MeV; without it per unit of the coded share y.
        """
        rows, k = observed.rows, observed.first_hits
        total = rows.x.new_zeros(observed.n_showers)
        log_p = splits.few_log_prob(self.counts(rows.x), rows.prior, k)
        total = total.index_add(0, observed.shower, log_p)
        both = ((k > 0) & (k < rows.hits)).nonzero()[:, 0]
        energy, n, k, first = rows.energy[both], rows.hits[both], k[both], observed.first_energy[both]
        y = splits.share_of(energy, n, first, k, self.threshold)
        log_p = splits.share_log_prob(*self._share(rows.x[both], energy, n, k), y)
        if density:
            log_p = log_p + splits.log_slope(energy, n, first, k, self.threshold)
        return total.index_add(0, observed.shower[both], log_p)

    def draw(self, rows: Rows, z_hits: Tensor, z_energy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the hits of the first half and the energies in MeV of both halves, (R,) each.

        Args:
            rows: the nodes.
            z_hits: (R,) standard normal number of each row's hits.
            z_energy: (R,) of its energy.
        """
        hits = splits.few_draw(self.counts(rows.x), rows.prior, splits.uniform(z_hits))
        both = ((hits > 0) & (hits < rows.hits)).nonzero()[:, 0]
        numbers, offsets = self._share(rows.x[both], rows.energy[both], rows.hits[both], hits[both])
        drawn = splits.share_draw(numbers, offsets, splits.uniform(z_energy[both]))
        y = torch.zeros_like(hits).index_put((both,), drawn)  # counts only where both halves have hits
        return hits, *splits.divide(rows.energy, rows.hits, hits, y, self.threshold)

    def _share(self, x: Tensor, energy: Tensor, n: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's numbers and the offsets of the components, where both halves have hits."""
        anchors = torch.cat([self.spectrum.quantiles, self.spectrum.peaks])
        at = splits.anchored(energy, n, k, anchors, self.threshold)  # L of each anchor, then R of each
        left, right = torch.split(at, len(anchors), 1)
        q = len(self.spectrum.quantiles)
        balance = torch.log(k / (n - k))[:, None]
        told = torch.stack([hits_feature(k), hits_feature(n - k)], 1)
        numbers = self.shares(torch.cat([x, told, 0.3 * balance, 0.25 * left[:, :q], 0.25 * right[:, :q]], 1))
        return numbers, torch.cat([balance.expand(-1, FREE_COMPONENTS), left[:, q:], right[:, q:]], 1)
