"""Stages three and four, layers into rings and rings into cells: which rows there are, wave by wave.

The two are one code with two tables; the networks are given, so that they can be trained by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.tree.context import SplitContext
from caloforge.models.tree.layout import Layout, Splits
from caloforge.models.tree.rows import Observed, Rows, SplitNetworks
from caloforge.models.tree.splits import hypergeometric_prior
from caloforge.models.tree.state import ENERGY, HITS, TreeState


class BoxSplits(nn.Module):
    """All splits of one kind, S of them; tables only.

    Attributes:
        waves: (first split, one past the last, network) of each step of the drawing.
        classes: numbers of hits that a first half can have, from 0.
        context: what the networks see.
    """

    prior: Tensor
    kind: Tensor
    node: Tensor
    first: Tensor
    halves: Tensor
    early: Tensor

    def __init__(self, layout: Layout, table: Splits, *, threshold: float, n_about: int, early_layers: int = 0) -> None:
        """Build the tables.

        Args:
            layout: the tree.
            table: its splits of this kind.
            threshold: MeV.
            n_about: features of a shower and its layer.
            early_layers: first layers whose splits have a network of their own.
        """
        super().__init__()
        early = layout.layer[table.node] < early_layers
        order = np.lexsort((table.wave, ~early))  # no split of the first layers needs one of the others
        table = Splits(table.node[order], table.wave[order], table.odd[order], table.context[order], table.names)
        early = early[order]
        self.context = SplitContext(layout, table, threshold=threshold, n_about=n_about)
        starts = np.flatnonzero(np.diff(table.wave + early * (table.wave.max(initial=0) + 1), prepend=-1))
        ends = [*starts[1:].tolist(), len(order)][: len(starts)]
        self.waves = [(a, b, int(early[a])) for a, b in zip(starts.tolist(), ends, strict=True)]
        left, right = (torch.as_tensor(side[table.node]) for side in (layout.left, layout.right))
        self._save("node", torch.as_tensor(table.node))
        self._save("first", left)
        self._save("halves", torch.cat([torch.cat([left[a:b], right[a:b]]) for a, b, _ in self.waves] or [left]))
        capacity = torch.as_tensor(layout.capacity)
        pairs, kind = torch.unique(torch.stack([capacity[left], capacity[right]], 1), dim=0, return_inverse=True)
        self.classes = int(pairs[:, 0].max()) + 1 if len(pairs) else 2
        prior = hypergeometric_prior(pairs[:, 0], pairs[:, 1], self.classes) if len(pairs) else torch.zeros(0, 1, 2)
        self._save("prior", prior)
        self._save("kind", kind)
        self.n_early = int(early.sum())
        self._save("early", torch.as_tensor(early))

    def _save(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def __len__(self) -> int:
        """Return the number of splits S."""
        return len(self.node)

    def observed(self, state: Tensor, about: Tensor, *, early: bool | None = None) -> Observed:
        """Return how the nodes of whole showers are split, all at once.

        Args:
            state: of B showers, see :mod:`caloforge.models.tree.state`.
            about: (L, B, n_about).
            early: only the splits of the first layers, or only those of the others; None for all.
        """
        wanted = state[self.node, HITS] > 0
        if early is not None:
            wanted &= (self.early if early else ~self.early)[:, None]
        split, shower = wanted.nonzero(as_tuple=True)
        node, first = self.node[split], self.first[split]
        rows = self._rows(state, about, split, shower, state[node, ENERGY, shower], state[node, HITS, shower])
        return Observed(rows, state[first, HITS, shower], state[first, ENERGY, shower], shower, state.shape[2])

    def draw(
        self, tree: TreeState, state: Tensor, about: Tensor, noise: Tensor, networks: Sequence[SplitNetworks]
    ) -> None:
        """Split all nodes wave by wave, in the state of showers of which the larger nodes are known.

        Args:
            tree: fills states.
            state: changed in place.
            about: (L, B, n_about).
            noise: (B, 2 S) standard normal numbers: for hits and for energy of each split.
            networks: those of most layers, then those of the first layers.
        """
        noise = noise.T.contiguous()
        for start, stop, which in self.waves:
            split = torch.arange(start, stop, device=state.device)
            halves = self.halves[2 * start : 2 * stop]
            self.wave(tree, state, about, noise, split, self.node[start:stop], halves, networks[which])

    def wave(
        self,
        tree: TreeState,
        state: Tensor,
        about: Tensor,
        noise: Tensor,
        split: Tensor,
        node: Tensor,
        halves: Tensor,
        networks: SplitNetworks,
    ) -> Tensor:
        """Return the state with some splits (W,) of nodes (W,) done: their halves (2 W,) filled; otherwise as draw."""
        energy, hits = state[node, ENERGY], state[node, HITS]  # (W, B)
        place, shower = (hits > 0).nonzero(as_tuple=True)
        chosen = split[place]
        rows = self._rows(state, about, chosen, shower, energy[place, shower], hits[place, shower])
        first_hits, *energies = networks.draw(rows, noise[2 * chosen, shower], noise[2 * chosen + 1, shower])
        left, right, k = (_scatter(values, place, shower, hits) for values in (*energies, first_hits))
        return tree.fill(state, halves, torch.cat([left, right]), torch.cat([k, hits - k]))

    def _rows(self, state: Tensor, about: Tensor, split: Tensor, shower: Tensor, energy: Tensor, hits: Tensor) -> Rows:
        x = self.context(state, split, shower, energy, hits, about)
        return Rows(x, energy, hits, self.prior[self.kind[split], hits.long()])


def _scatter(values: Tensor, row: Tensor, column: Tensor, like: Tensor) -> Tensor:
    """Return a table like another, zero but for some values."""
    return torch.zeros_like(like).index_put((row, column), values)
