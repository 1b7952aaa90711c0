"""Hits and energies of all nodes of a batch of showers, and the sums that later splits look at.

The state is one tensor (M + 1, 5, B), per node and shower

====== ============================================================================
0      energy E in MeV
1      hits n
2, 3   their *history*: E and n here + 0.7 (history over here in the layer before)
4      E of this piece of the ring and of the same piece of all rings inside it; of whole rings E alone
====== ============================================================================

Node M is "nothing": always 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.models.tree.layout import Layout
from caloforge.models.tree.row_mlp import being_recorded

ENERGY, HITS, PAST_ENERGY, PAST_HITS, INNER_ENERGY = range(5)
PLANES = 5

MEMORY = 0.7
"""What a layer's history keeps of the layer before it."""


class TreeState(nn.Module):
    """Fill states, from whole showers or node by node; the same numbers either way."""

    left: Tensor
    right: Tensor
    below: Tensor
    source: Tensor
    weight: Tensor
    under: Tensor
    kept: Tensor
    cell: Tensor
    layer: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        nothing = layout.nothing
        for name in ("left", "right", "cell"):
            self.register_buffer(name, torch.as_tensor(getattr(layout, name)), persistent=False)
        self.register_buffer("layer", torch.as_tensor(layout.layer_node), persistent=False)
        for name, rest in (("below", nothing), ("source", nothing), ("weight", 0.0)):
            table = torch.as_tensor(getattr(layout, name))
            row = torch.full_like(table[:1], rest)
            self.register_buffer(name, torch.cat([table, row]), persistent=False)
        self.weight = self.weight.float()
        under, kept = self._under()
        self.register_buffer("under", under, persistent=False)
        self.register_buffer("kept", kept, persistent=False)
        # Where layers are alike each node has one node over it, with weight 1.
        self.aligned = bool((layout.source.shape[1] == 1) and (layout.weight[layout.layer > 0] == 1).all())
        self._by_ring = [
            torch.tensor([m for m, b in enumerate(layout.boxes) if b.ring == r and b.level > 0], dtype=torch.long)
            for r in range(max(layer.n_r for layer in layout.geometry.active_layers))
        ]

    def empty(self, batch: int, device: torch.device) -> Tensor:
        """Return the state of showers without anything."""
        return torch.zeros(self.layout.nothing + 1, PLANES, batch, device=device)

    def fill(self, state: Tensor, nodes: Tensor, energy: Tensor, hits: Tensor) -> Tensor:
        """Return the state with energies and hits (W, B) of nodes (W,); it is changed in place.

        What lies over the nodes in the layer before, and inside them, must be there already.
        """
        values = torch.stack([energy, hits], 1)
        found = state.reshape(-1, state.shape[2]).index_select(0, self.under.index_select(0, nodes).reshape(-1))
        found = (
            found.reshape(-1, 3, self.kept.shape[2], state.shape[2]) * self.kept.index_select(0, nodes)[..., None]
        )  # (W, 3, K, B)
        found = found[:, :, 0] if self.aligned else found.sum(2)
        return _put(state, nodes, torch.cat([values, torch.cat([values, values[:, :1]], 1) + found], 1))

    def _under(self) -> tuple[Tensor, Tensor]:
        """Return what a node's planes 2 to 4 add up: rows of the state, (M + 1, 3, K), and the share of each."""
        under = PLANES * self.source[:, None] + torch.tensor([PAST_ENERGY, PAST_HITS, INNER_ENERGY])[:, None]
        kept = MEMORY * self.weight[:, None].repeat(1, 3, 1)
        under[:, 2], kept[:, 2] = PLANES * self.layout.nothing + INNER_ENERGY, 0
        under[:, 2, 0], kept[:, 2, 0] = PLANES * self.below + INNER_ENERGY, 1
        return under, kept

    def of_layers(self, energy: Tensor, hits: Tensor) -> Tensor:
        """Return the state of showers of which only the layers are known, (B, L) each."""
        values = torch.stack([energy.T, hits.T], 1)  # (L, 2, B)
        past = [values[0]]
        for now in values[1:]:
            past.append(now + MEMORY * past[-1])
        state = self.empty(energy.shape[0], energy.device)
        return _put(state, self.layer, torch.cat([values, torch.stack(past), values[:, :1]], 1))

    def of_showers(self, voxels: Tensor) -> Tensor:
        """Return the state of showers (B, V) in MeV, with no voxel between 0 and the threshold."""
        state = self.empty(len(voxels), voxels.device)
        state[self.cell, ENERGY] = voxels.T
        state[self.cell, HITS] = (voxels.T > 0).to(voxels.dtype)
        for nodes in self.layout.by_height:
            at = torch.as_tensor(nodes, device=voxels.device)
            state[at, :2] = state[self.left[at], :2] + state[self.right[at], :2]
        for place in self.layout.layer_slices:
            state[place, 2:4] = state[place, :2] + MEMORY * self._over(state, place)
        state[:, INNER_ENERGY] = state[:, ENERGY]
        for ring in self._by_ring:  # from the inside out
            at = ring.to(voxels.device)
            state[at, INNER_ENERGY] = state[at, ENERGY] + state[self.below[at], INNER_ENERGY]
        return state

    def _over(self, state: Tensor, nodes: Tensor | slice) -> Tensor:
        """Return the history over nodes in the layer before, (W, 2, B)."""
        if self.aligned:
            return state[self.source[nodes, 0], 2:4]
        return (state[self.source[nodes], 2:4] * self.weight[nodes][:, :, None, None]).sum(1)


def _put(state: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    """Set rows; in place but for a graph that is being recorded, whose loops know no places."""
    return state.index_put((nodes,), values) if being_recorded() else state.index_copy_(0, nodes, values)
