"""The two conditional distributions of a split, on rows: one row per split of a shower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.models.family import TrainableModel
from caloforge.models.tree import splits
from caloforge.models.tree.context import SplitContext, hits_feature
from caloforge.models.tree.row_mlp import FirstLayer, RowMLP, spread_components
from caloforge.models.tree.spectrum import PEAKS, QUANTILES, HitSpectrum

FREE_COMPONENTS = 4
"""Components of the energy share that are not tied to a landmark of the hit spectrum."""

COMPONENTS = FREE_COMPONENTS + 2 * PEAKS


@dataclass(frozen=True)
class Rows:
    """Nodes with hits that are to be split.

    Nodes of which each cell has a hit come last: their halves are full too, without any choice.

    Attributes:
        x: (R, F) what the networks see, but for what is the same for every shower.
        split: (R,) number of the split.
        energy: (R,) MeV of the node.
        hits: (R,) of the node, at least 1.
        prior: (R', classes) log of the number of ways to place the hits, of those with a choice.
        full: (R - R',) hits of the first half, of those without.
    """

    x: Tensor
    split: Tensor
    energy: Tensor
    hits: Tensor
    prior: Tensor
    full: Tensor


@dataclass(frozen=True)
class View:
    """What networks see of a kind of split.

    Attributes:
        context: the kind.
        directed: see :meth:`caloforge.models.tree.context.SplitContext.first_layer`.
    """

    context: SplitContext
    directed: Tensor


class Observed:
    """Rows with what happened: how the nodes of some showers were split.

    Attributes:
        rows: the nodes.
        view: what their networks see of them.
        first_hits: (R,) of the first half.
        first_energy: (R,) MeV of the first half.
        shower: (R,) number of the shower.
        n_showers: B.
    """

    def __init__(
        self, rows: Rows, view: View, first_hits: Tensor, first_energy: Tensor, shower: Tensor, n_showers: int
    ) -> None:
        self.rows, self.view, self.first_hits, self.first_energy = rows, view, first_hits, first_energy
        self.shower, self.n_showers = shower, n_showers


class SplitNetworks(TrainableModel):
    """Hits of the first half given all that is seen, then its share of the free energy given its hits."""

    betas = (0.9, 0.98)
    exact = True

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
        for_counts, for_shares = self.first_layers(observed.view)
        total = rows.x.new_zeros(observed.n_showers)
        free = rows.prior.shape[0]
        logits = self.counts(rows.x[:free], for_counts, rows.split[:free])
        total = total.index_add(0, observed.shower[:free], splits.few_log_prob(logits, rows.prior, k[:free]))
        both = ((k > 0) & (k < rows.hits)).nonzero()[:, 0]
        energy, n, k, first = rows.energy[both], rows.hits[both], k[both], observed.first_energy[both]
        y = splits.share_of(energy, n, first, k, self.threshold)
        log_p = splits.share_log_prob(*self._share(rows.x[both], rows.split[both], for_shares, energy, n, k), y)
        if density:
            log_p = log_p + splits.log_slope(energy, n, first, k, self.threshold)
        return total.index_add(0, observed.shower[both], log_p)

    def first_layers(self, view: View) -> tuple[FirstLayer, FirstLayer]:
        """Return the first layers of both networks with what they make of constants."""
        counts, shares = (
            view.context.first_layer(cast("nn.Linear", network[0]), view.directed)
            for network in (self.counts, self.shares)
        )
        return counts, shares

    def draw(
        self, rows: Rows, first: tuple[FirstLayer, FirstLayer], u_hits: Tensor, u_energy: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the hits of the first half and the energies in MeV of both halves, (R,) each.

        Args:
            rows: the nodes.
            first: of :meth:`first_layers`.
            u_hits: (R,) uniform number of each row's hits.
            u_energy: (R,) of its energy.
        """
        energy, hits = rows.energy, rows.hits
        free = rows.prior.shape[0]
        logits = self.counts(rows.x[:free], first[0], rows.split[:free])
        k = torch.cat([splits.few_draw(logits, rows.prior, u_hits[:free]), rows.full])
        some, rest = (k > 0).to(energy.dtype), (k < hits).to(energy.dtype)
        both = (some * rest).nonzero()[:, 0]
        e, n, k_both, x, split, u = (v.index_select(0, both) for v in (energy, hits, k, rows.x, rows.split, u_energy))
        y = splits.share_draw(*self._share(x, split, first[1], e, n, k_both), u)
        halves = splits.share_out(e, n, k_both, y, self.threshold)
        left, right = (
            (energy * any_hits).scatter(0, both, half) for any_hits, half in zip((some, rest), halves, strict=True)
        )
        return k, left, right

    def _share(
        self, x: Tensor, split: Tensor, first: FirstLayer, energy: Tensor, n: Tensor, k: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the network's numbers and the offsets of the components, where both halves have hits."""
        anchors = torch.cat([self.spectrum.quantiles, self.spectrum.peaks])
        at = splits.anchored(energy, n, k, anchors, self.threshold)  # L of each anchor, then R of each
        left, right = torch.split(at, len(anchors), 1)
        q = len(self.spectrum.quantiles)
        balance = torch.log(k / (n - k))[:, None]
        told = torch.stack([hits_feature(k), hits_feature(n - k)], 1)
        x = torch.cat([x, told, 0.3 * balance, 0.25 * left[:, :q], 0.25 * right[:, :q]], 1)
        offsets = torch.cat([balance.expand(-1, FREE_COMPONENTS), left[:, q:], right[:, q:]], 1)
        return self.shares(x, first, split), offsets
