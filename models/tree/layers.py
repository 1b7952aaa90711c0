"""Second stage: hits and energy of each layer, "layer i | the layers behind it"."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.draws import Draws
from caloforge.models.family import TrainableModel
from caloforge.models.tree import splits
from caloforge.models.tree.context import energy_feature, hits_feature
from caloforge.models.tree.row_mlp import RowMLP, spread_components

WINDOW = 5
"""Layers before this one that a split sees one by one."""

COUNT_COMPONENTS = 4
SHARE_COMPONENTS = 4


class LayerSplits(TrainableModel):
    """The chain of splits along the depth of the shower.

    Counts are wide, so they are logistics in sqrt(n) with a gate for an empty layer; a layer that is
    empty too often or too rarely is what a comparison of layer energies sees first.
    """

    betas = (0.9, 0.98)
    exact = True
    capacity: Tensor
    behind: Tensor

    def __init__(self, capacities: Tensor, *, threshold: float, width: int, n_shower: int) -> None:
        """Build the networks.

        Args:
            capacities: (L,) number of cells of each layer.
            threshold: MeV.
            width: of the networks.
            n_shower: features of a shower.
        """
        super().__init__()
        self.threshold = threshold
        self.n_layers = len(capacities)
        capacities = capacities.float()
        self.register_buffer("capacity", capacities, persistent=False)
        self.register_buffer("behind", capacities.sum() - capacities.cumsum(0), persistent=False)
        n_features = self.n_layers + 2 * WINDOW + 6 + n_shower
        self.counts = RowMLP(n_features, width, 1 + 3 * COUNT_COMPONENTS)
        self.shares = RowMLP(n_features + 3, width, 3 * SHARE_COMPONENTS)
        k = COUNT_COMPONENTS
        spread_components(self.counts, slice(1 + k, 1 + 2 * k), -1.5, 1.5)
        spread_components(self.shares, slice(SHARE_COMPONENTS, 2 * SHARE_COMPONENTS), -1.5, 1.5)

    def __len__(self) -> int:
        """Return the number of splits."""
        return self.n_layers - 1

    def forward(self, part: str, batch: Any, draws: Draws) -> Tensor:
        """Return the negative log-likelihood per shower of (energy, hits, shower features)."""
        energy, hits, shower = batch
        return -self.log_prob(energy, hits, shower, density=False).mean()

    def log_prob(self, energy: Tensor, hits: Tensor, shower: Tensor, *, density: bool) -> Tensor:
        """Return the log-probability of layers given their sums, (B,).

        Args:
            energy: (B, L) MeV.
            hits: (B, L).
            shower: (B, n_shower) features.
            density: of energies in MeV, not of y.
        """
        total = energy.new_zeros(len(energy))
        if self.n_layers == 1:
            return total
        rest_e, rest_n = (x.flip(1).cumsum(1).flip(1)[:, :-1] for x in (energy, hits))  # (B, L - 1)
        b, i = (rest_n > 0).nonzero(as_tuple=True)
        x = self._features(energy, hits, rest_e, rest_n, shower)[b, i]
        e, n, k, node_e = energy[b, i], rest_n[b, i], hits[b, i], rest_e[b, i]
        low, high = self._bounds(n, i)
        total = total.index_add(0, b, splits.many_log_prob(self.counts(x), low, high, k))
        both = ((k > 0) & (k < n)).nonzero()[:, 0]
        e, n, k, node_e, b = (v[both] for v in (e, n, k, node_e, b))
        y = splits.share_of(node_e, n, e, k, self.threshold)
        log_p = splits.share_log_prob(*self._shares(x[both], node_e, n, k), y)
        if density:
            log_p = log_p + splits.log_slope(node_e, n, e, k, self.threshold)
        return total.index_add(0, b, log_p)

    def draw(self, energy: Tensor, hits: Tensor, shower: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies in MeV and hits of the layers, (B, L) each.

        Args:
            energy: (B,) MeV of the shower.
            hits: (B,) of the shower.
            shower: (B, n_shower) features.
            u: (B, 2 (L - 1)) uniform numbers.
        """
        e, n = (energy[:, None].expand(-1, self.n_layers) * 0 for _ in range(2))
        for i in torch.arange(self.n_layers - 1, device=energy.device):
            e, n, energy, hits = self.step(i, e, n, energy, hits, shower, u)
        return self.with_last(e, n, energy, hits)

    def with_last(self, e: Tensor, n: Tensor, energy: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
        """Return layers (B, L) of which the last gets what is left, (B,)."""
        last = self._is_layer(torch.tensor(self.n_layers - 1, device=energy.device))
        return e + energy[:, None] * last, n + hits[:, None] * last

    def step(
        self, i: Tensor, e: Tensor, n: Tensor, energy: Tensor, hits: Tensor, shower: Tensor, u: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return layers (B, L) with layer i, and what is left of energy and hits (B,), when it has its share."""
        x = self._features_at(i, e, n, energy, hits, shower)
        low, high = self._bounds(hits, i)
        u = u[:, 2 * i + torch.arange(2, device=u.device)]
        k = splits.many_draw(self.counts(x), low, high, u[:, 0])
        # Rows without a choice get any share that is finite.
        some = hits.clamp_min(2)
        y = splits.share_draw(*self._shares(x, energy, some, torch.minimum(k.clamp_min(1), some - 1)), u[:, 1])
        here, rest = splits.divide(energy, hits, k, y, self.threshold)
        is_layer = self._is_layer(i)
        return e + here[:, None] * is_layer, n + k[:, None] * is_layer, rest, hits - k

    def _is_layer(self, i: Tensor) -> Tensor:
        return (torch.arange(self.n_layers, device=i.device) == i).to(self.capacity.dtype)

    def _bounds(self, n: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        return (n - self.behind[i]).clamp_min(0), torch.minimum(n, self.capacity[i].expand_as(n))

    def _shares(self, x: Tensor, energy: Tensor, n: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        extra = torch.stack([hits_feature(k), hits_feature(n - k), 0.3 * torch.log((k + 0.5) / (n - k + 0.5))], 1)
        numbers = self.shares(torch.cat([x, extra], 1))
        return numbers, torch.log(k / (n - k))[:, None].expand(-1, SHARE_COMPONENTS)

    def _features(self, energy: Tensor, hits: Tensor, rest_e: Tensor, rest_n: Tensor, shower: Tensor) -> Tensor:
        """Return (B, L - 1, F) of known layers."""
        m = self.n_layers - 1
        # The window of split i is [i - 5, i) of the layers, with zeros in front.
        window_e, window_n = (F.pad(x, (WINDOW, 0)).unfold(1, WINDOW, 1)[:, :m] for x in (energy, hits))
        depth = torch.arange(self.n_layers, dtype=energy.dtype, device=energy.device)
        moments = [F.pad((energy * depth**p).cumsum(1), (1, 0))[:, :m] for p in range(3)]
        i = torch.arange(m, device=energy.device)
        one_hot = F.one_hot(i, self.n_layers).to(energy.dtype).expand(len(energy), -1, -1)
        shower = shower[:, None].expand(-1, m, -1)
        return self._join(one_hot, window_e, window_n, moments, rest_e, rest_n, i.to(energy.dtype), shower)

    def _features_at(
        self, i: Tensor, energy: Tensor, hits: Tensor, rest_e: Tensor, rest_n: Tensor, shower: Tensor
    ) -> Tensor:
        """Return (B, F) of split i; the layers from i on are still 0."""
        window = i + torch.arange(WINDOW, device=i.device)
        window_e, window_n = (F.pad(x, (WINDOW, 0))[:, window] for x in (energy, hits))
        depth = torch.arange(self.n_layers, dtype=energy.dtype, device=energy.device)
        moments = [(energy * depth**p).sum(1) for p in range(3)]
        one_hot = self._is_layer(i).expand(energy.shape[0], -1)
        return self._join(one_hot, window_e, window_n, moments, rest_e, rest_n, i.to(energy.dtype), shower)

    def _join(
        self,
        one_hot: Tensor,
        window_e: Tensor,
        window_n: Tensor,
        moments: list[Tensor],
        rest_e: Tensor,
        rest_n: Tensor,
        i: Tensor,
        shower: Tensor,
    ) -> Tensor:
        sum0 = moments[0].clamp_min(1e-6)
        mean = moments[1] / sum0
        spread = torch.sqrt((moments[2] / sum0 - mean**2).clamp_min(0))
        some = (moments[0] > 0).to(mean.dtype)
        per_hit = rest_e.clamp_min(self.threshold) / (rest_n.clamp_min(1) * self.threshold)
        share = moments[0] / (moments[0] + rest_e).clamp_min(1e-6)
        scalars = torch.stack(
            [
                energy_feature(rest_e, self.threshold),
                hits_feature(rest_n),
                0.3 * torch.log(per_hit) - 1.5,
                0.5 * torch.log(share.clamp_min(1e-4)),
                0.2 * (mean - i) * some,
                0.3 * spread * some,
            ],
            -1,
        )
        return torch.cat(
            [one_hot, energy_feature(window_e, self.threshold), hits_feature(window_n), scalars, shower], -1
        )
