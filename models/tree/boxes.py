"""Stages three and four, layers into rings and rings into cells: which rows there are, wave by wave.

The two are one code with two tables; the networks are given, so that they can be trained by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.tree.context import SplitContext, Where
from caloforge.models.tree.layout import Layout, Splits
from caloforge.models.tree.row_mlp import FirstLayer
from caloforge.models.tree.rows import Observed, Rows, SplitNetworks, View
from caloforge.models.tree.slots import Slots, WaveNodes
from caloforge.models.tree.splits import hypergeometric_prior
from caloforge.models.tree.state import ENERGY, HITS, PLANES, TreeState, fill


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
    of_node: Tensor
    first_capacity: Tensor
    slot_energies: Tensor
    slot_hits: Tensor
    slot_of_node: Tensor
    slot_halves: Tensor
    slot_under: Tensor
    share: Tensor

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
        self._save("prior", prior.flatten(0, 1))
        self._save("kind", kind * prior.shape[1])
        self._save("first_capacity", pairs[kind, 0].float())
        self._save("of_node", PLANES * self.node[:, None] + torch.tensor([ENERGY, HITS]))
        self.n_early = int(early.sum())
        self._save("early", torch.as_tensor(early))

    def _save(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def __len__(self) -> int:
        """Return the number of splits S."""
        return len(self.node)

    def observed(self, state: Tensor, about: Tensor, directed: Tensor, *, early: bool | None = None) -> Observed:
        """Return how the nodes of whole showers are split, all at once.

        Args:
            state: of B showers, see :mod:`caloforge.models.tree.state`.
            about: (L, B, n_about + 2), see :class:`SplitContext`.
            directed: see :meth:`SplitContext.first_layer`.
            early: only the splits of the first layers, or only those of the others; None for all.
        """
        start, stop = {None: (0, len(self)), True: (0, self.n_early), False: (self.n_early, len(self))}[early]
        split = torch.arange(start, stop, device=state.device)
        rows, place, shower = self._rows(state, self.context.where, about, split, self.of_node[start:stop])
        first = self.first[start:stop][place]
        view = View(self.context, directed)
        return Observed(rows, view, state[first, HITS, shower], state[first, ENERGY, shower], shower, state.shape[2])

    def wave_nodes(self, tree: TreeState) -> list[WaveNodes]:
        """Return which nodes each step of the drawing needs and makes."""
        found = []
        for start, stop, _ in self.waves:
            made = self.halves[2 * start : 2 * stop]
            looked_at = [self.context.energies[start:stop], self.context.hits[start:stop], tree.under(made)[0]]
            rows = torch.cat([table.flatten() for table in looked_at])
            read = torch.cat([rows // PLANES, self.node[start:stop]])
            found.append(WaveNodes(read.numpy(), made.numpy()))
        return found

    def place(self, tree: TreeState, slots: Slots) -> None:
        """Make the tables for drawing in slots."""
        slot = torch.as_tensor(slots.of)

        def placed(rows: Tensor) -> Tensor:
            return PLANES * slot[rows // PLANES] + rows % PLANES

        under, share = tree.under(self.halves)
        self._save("slot_energies", placed(self.context.energies))
        self._save("slot_hits", placed(self.context.hits))
        self._save("slot_of_node", placed(self.of_node))
        self._save("slot_halves", slot[self.halves])
        self._save("slot_under", placed(under))
        self._save("share", share)

    def draw(
        self, state: Tensor, about: Tensor, u: Tensor, directed: Tensor, networks: Sequence[SplitNetworks]
    ) -> list[Tensor]:
        """Split all nodes wave by wave, in the state of showers of which the larger nodes are known.

        Args:
            state: (slots, 5, B), changed in place.
            about: (L, B, n_about + 2), see :class:`SplitContext`.
            u: (2 S, B) uniform numbers: for hits and for energy of each split.
            directed: see :meth:`SplitContext.first_layer`.
            networks: those of most layers, then those of the first layers.

        Returns:
            Energies of the halves of each wave, (2 W, B) in the order of ``halves``.
        """
        drawing = [self.drawing(n, directed) for n in networks]
        made = []
        for start, stop, which in self.waves:
            split = torch.arange(start, stop, device=state.device)
            halves = slice(2 * start, 2 * stop)
            wave = Wave(
                split, self.slot_of_node[start:stop], self.slot_halves[halves], self.slot_under[halves],
                self.share[halves],
            )  # fmt: skip
            state, energy = self.wave(state, about, u, wave, drawing[which])
            made.append(energy)
        return made

    def drawing(self, networks: SplitNetworks, directed: Tensor) -> Drawing:
        """Return networks ready to draw these splits."""
        return Drawing(networks, networks.first_layers(View(self.context, directed)))

    def wave(self, state: Tensor, about: Tensor, u: Tensor, wave: Wave, drawing: Drawing) -> tuple[Tensor, Tensor]:
        """Return the state with the halves of a wave filled, and their energies (2 W, B); otherwise as :meth:`draw`."""
        where = Where(self.slot_energies, self.slot_hits)
        rows, place, shower = self._rows(state, where, about, wave.split, wave.of_node)
        batch, w = state.shape[2], wave.split.shape[0]
        at = 2 * batch * rows.split + shower
        u = u.reshape(-1)
        k, left, right = drawing.networks.draw(
            rows, drawing.first, u.index_select(0, at), u.index_select(0, at + batch)
        )
        at, size = place * batch + shower, w * batch
        at = torch.cat([at, at + size, at + 2 * size, at + 3 * size])
        values = torch.zeros(4 * size, device=state.device).scatter(0, at, torch.cat([left, right, k, rows.hits - k]))
        energy, hits = values.reshape(2, 2 * w, batch).unbind(0)
        return fill(state, wave.halves, wave.under, wave.share, energy, hits), energy

    def _rows(
        self, state: Tensor, where: Where, about: Tensor, split: Tensor, of_node: Tensor
    ) -> tuple[Rows, Tensor, Tensor]:
        """Return the nodes with hits of some splits (W,); which of the splits they are, and their showers, (R,)."""
        batch = state.shape[2]
        energy, hits = (
            state.reshape(-1, batch).index_select(0, of_node.T.reshape(-1)).reshape(2, -1, batch).unbind(0)
        )  # (W, B)
        missing = self.context.capacity.index_select(0, split)[:, None] - hits
        free = (hits * missing).reshape(-1).nonzero()[:, 0]
        full = (missing == 0).reshape(-1).nonzero()[:, 0]
        at = torch.cat([free, full])
        place = torch.div(at, batch, rounding_mode="floor")
        shower = at - place * batch
        split = split.index_select(0, place)
        energy, hits = energy.reshape(-1).index_select(0, at), hits.reshape(-1).index_select(0, at)
        n = free.shape[0]
        prior = self.kind.index_select(0, split[:n]) + hits[:n].long()
        rows = Rows(
            self.context(state, where, split, shower, energy, hits, about),
            split,
            energy,
            hits,
            self.prior.index_select(0, prior),
            self.first_capacity.index_select(0, split[n:]),
        )
        return rows, place, shower


@dataclass(frozen=True)
class Wave:
    """Splits that are drawn together, W of them.

    Attributes:
        split: (W,) their numbers.
        of_node: (W, 2) rows of the flattened state with energy and hits of the nodes.
        halves: (2 W,) slots to be filled: first halves, then second halves.
        under: (2 W, 3, K), see :func:`caloforge.models.tree.state.fill`.
        share: (2 W, 3, K).
    """

    split: Tensor
    of_node: Tensor
    halves: Tensor
    under: Tensor
    share: Tensor


@dataclass(frozen=True)
class Drawing:
    """Networks, ready to draw.

    Attributes:
        networks: of some splits.
        first: of :meth:`SplitNetworks.first_layers`.
    """

    networks: SplitNetworks
    first: tuple[FirstLayer, FirstLayer]
