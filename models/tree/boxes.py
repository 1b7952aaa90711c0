"""Stages three and four: layers into rings, rings into cells; one code, two tables, two sets of networks."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from caloforge.models.tree import splits
from caloforge.models.tree.context import SplitContext, hits_feature
from caloforge.models.tree.layout import Layout, Splits
from caloforge.models.tree.networks import RowMLP, spread_components
from caloforge.models.tree.spectrum import HitSpectrum
from caloforge.models.tree.state import ENERGY, HITS, TreeState

FREE_COMPONENTS = 4
"""Components of the energy share that are not tied to a peak of the hit spectrum."""


@dataclass(frozen=True)
class Rows:
    """Splits of a batch that have something to decide.

    Attributes:
        split: (R,) number of the split.
        shower: (R,) number of the shower.
        energy: (R,) MeV of the node.
        hits: (R,) of the node.
    """

    split: Tensor
    shower: Tensor
    energy: Tensor
    hits: Tensor

    def take(self, index: Tensor) -> Rows:
        """Return some of the rows."""
        return Rows(self.split[index], self.shower[index], self.energy[index], self.hits[index])


class SplitNetworks(nn.Module):
    """The two conditional distributions of a split: hits of the first half, then its share of the energy."""

    def __init__(self, n_features: int, width: int, classes: int, spectrum: HitSpectrum) -> None:
        super().__init__()
        components = FREE_COMPONENTS + 2 * len(spectrum.peaks)
        extra = 3 + 2 * len(spectrum.quantiles)
        self.counts = RowMLP(n_features, width, classes)
        self.shares = RowMLP(n_features + extra, width, 3 * components)
        spread_components(self.shares, slice(components, components + FREE_COMPONENTS), -1.5, 1.5)


class BoxSplits(nn.Module):
    """All splits of one kind."""

    prior: Tensor
    kind: Tensor
    node: Tensor
    halves: Tensor
    first: Tensor

    def __init__(
        self,
        layout: Layout,
        table: Splits,
        spectrum: HitSpectrum,
        *,
        threshold: float,
        width: int,
        n_shower: int,
        symmetric: bool,
        early_layers: int = 0,
    ) -> None:
        """Build tables and networks.

        Args:
            layout: the tree.
            table: its splits of this kind.
            spectrum: anchors of the energy shares.
            threshold: MeV.
            width: of the networks.
            n_shower: features of a shower and its layer.
            symmetric: see :class:`SplitContext`.
            early_layers: first layers whose splits have networks of their own.
        """
        super().__init__()
        self.threshold = threshold
        self.context = SplitContext(layout, table, threshold=threshold, n_shower=n_shower, symmetric=symmetric)
        self._spectrum = (spectrum,)  # a tuple: its owner saves it
        left, right = (torch.as_tensor(x[table.node]) for x in (layout.left, layout.right))
        capacities = torch.as_tensor(layout.capacity)
        pairs, kind = torch.unique(torch.stack([capacities[left], capacities[right]], 1), dim=0, return_inverse=True)
        classes = int(pairs[:, 0].max()) + 1 if len(pairs) else 1
        prior = splits.hypergeometric_prior(pairs[:, 0], pairs[:, 1], classes) if len(pairs) else torch.zeros(0, 1, 1)
        self.register_buffer("prior", prior, persistent=False)
        self.register_buffer("kind", kind, persistent=False)
        self.register_buffer("node", torch.as_tensor(table.node), persistent=False)
        self.register_buffer("first", left, persistent=False)
        early = torch.as_tensor(layout.layer[table.node] < early_layers)
        self._waves = [
            (torch.arange(wave.start, wave.stop)[early[wave] == bool(group)], group)
            for wave in table.waves
            for group in range(2 if early_layers else 1)
        ]
        self._waves = [(index, group) for index, group in self._waves if len(index)]
        order = [torch.cat([left[index], right[index]]) for index, _ in self._waves]
        self.register_buffer("halves", torch.cat(order) if order else left, persistent=False)
        self.register_buffer("early", early, persistent=False)
        self.networks = nn.ModuleList(
            SplitNetworks(self.context.n_features, width, classes, spectrum) for _ in range(2 if early_layers else 1)
        )

    def __len__(self) -> int:
        """Return the number of splits S."""
        return len(self.node)

    def copy_to_early(self) -> None:
        """Let the networks of the first layers start as copies of the others."""
        if len(self.networks) > 1:
            self.networks[1].load_state_dict(copy.deepcopy(self.networks[0].state_dict()))

    # --- likelihood ---

    def log_prob(self, state: Tensor, about: Tensor, *, group: int | None = None, density: bool = False) -> Tensor:
        """Return the log-probability of the splits of whole showers, summed per shower, (B,).

        Args:
            state: of the showers.
            about: (L, B, n_shower).
            group: 0: all splits by the common networks; 1: those of the first layers by theirs; None: each
                by its own.
            density: of energies in MeV, not of y.
        """
        hits = state[HITS, self.node]
        wanted = hits > 0
        if group == 1:
            wanted = wanted & self.early[:, None]
        total = state.new_zeros(state.shape[2])
        if group is None and len(self.networks) > 1:
            for g in (0, 1):
                mask = wanted & (self.early == bool(g))[:, None]
                total = total + self._log_prob(state, about, mask, g, density)
            return total
        return self._log_prob(state, about, wanted, group or 0, density)

    def _log_prob(self, state: Tensor, about: Tensor, wanted: Tensor, group: int, density: bool) -> Tensor:
        split, shower = wanted.nonzero(as_tuple=True)
        node, first = self.node[split], self.first[split]
        rows = Rows(split, shower, state[ENERGY, node, shower], state[HITS, node, shower])
        x = self.context(state, split, shower, rows.energy, rows.hits, about)
        first_hits, first_energy = state[HITS, first, shower], state[ENERGY, first, shower]
        networks = self.networks[group]
        total = state.new_zeros(state.shape[2])
        some = (rows.hits < self.context.capacity[split]).nonzero().squeeze(1)
        log_p = splits.few_log_prob(networks.counts(x[some]), self._prior(rows.take(some)), first_hits[some])
        total = total.index_add(0, shower[some], log_p)
        both = ((first_hits > 0) & (first_hits < rows.hits)).nonzero().squeeze(1)
        rows, k, e = rows.take(both), first_hits[both], first_energy[both]
        numbers, offsets = self._shares(networks, x[both], rows, k)
        node_e, node_n = rows.energy, rows.hits
        y = splits.share_of(node_e, node_n, e, k, self.threshold)
        log_p = splits.share_log_prob(numbers, offsets, y)
        if density:
            log_p = log_p + splits.log_slope(node_e, node_n, e, k, self.threshold)
        return total.index_add(0, rows.shower, log_p)

    # --- sampling ---

    def draw(self, tree: TreeState, state: Tensor, about: Tensor, noise: Tensor) -> None:
        """Split all nodes, wave by wave, in the state of showers whose layers (or rings) are known.

        Args:
            tree: fills states.
            state: changed in place.
            about: (L, B, n_shower).
            noise: (B, 2 S) standard normal numbers, one for hits and one for the energy of each split.
        """
        batch, n_noise = noise.shape
        flat = noise.reshape(-1)
        done = 0
        for index, group in self._waves:
            nodes = self.node[index]
            energy, hits = state[ENERGY, nodes], state[HITS, nodes]  # (W, B)
            place, shower = (hits > 0).nonzero(as_tuple=True)
            rows = Rows(index[place], shower, energy[place, shower], hits[place, shower])
            at = shower * n_noise + 2 * rows.split
            left_hits, left_energy, right_energy = self._draw_rows(group, state, rows, about, flat[at], flat[at + 1])
            first_hits, first_energy, second_energy = (torch.zeros_like(hits) for _ in range(3))
            first_hits[place, shower] = left_hits
            first_energy[place, shower] = left_energy
            second_energy[place, shower] = right_energy
            children = self.halves[2 * done : 2 * (done + len(index))]
            done += len(index)
            tree.fill(
                state, children, torch.cat([first_energy, second_energy]), torch.cat([first_hits, hits - first_hits])
            )

    def _draw_rows(
        self, group: int, state: Tensor, rows: Rows, about: Tensor, z_hits: Tensor, z_energy: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        networks = self.networks[group]
        x = self.context(state, rows.split, rows.shower, rows.energy, rows.hits, about)
        hits = splits.few_draw(networks.counts(x), self._prior(rows), splits.uniform(z_hits))
        y = torch.zeros_like(hits)  # counts only where both halves have hits
        both = ((hits > 0) & (hits < rows.hits)).nonzero().squeeze(1)
        inner, k = rows.take(both), hits[both]
        numbers, offsets = self._shares(networks, x[both], inner, k)
        y[both] = splits.share_draw(numbers, offsets, splits.uniform(z_energy[both]))
        return hits, *splits.divide(rows.energy, rows.hits, hits, y, self.threshold)

    def _prior(self, rows: Rows) -> Tensor:
        return self.prior[self.kind[rows.split], rows.hits.long()]

    def _shares(self, networks: SplitNetworks, x: Tensor, rows: Rows, first_hits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers and the offsets of the energy shares of rows that have hits on both sides."""
        second_hits = rows.hits - first_hits
        where = splits.anchored(rows.energy, rows.hits, first_hits, self._spectrum[0].quantiles, self.threshold)
        extra = torch.stack(
            [
                hits_feature(first_hits),
                hits_feature(second_hits),
                0.3 * torch.log((first_hits + 0.5) / (second_hits + 0.5)),
            ],
            1,
        )
        numbers = networks.shares(torch.cat([x, extra, 0.25 * where], 1))
        offsets = splits.share_offsets(
            rows.energy, rows.hits, first_hits, self._spectrum[0].peaks, self.threshold, FREE_COMPONENTS
        )
        return numbers, offsets
