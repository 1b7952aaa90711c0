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
    """Fill states from whole showers, all nodes at once; and say what :func:`fill` needs to do so node by node."""

    left: Tensor
    right: Tensor
    below: Tensor
    source: Tensor
    weight: Tensor
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
        # Where layers are alike each node has one node over it, with weight 1.
        self.aligned = bool((layout.source.shape[1] == 1) and (layout.weight[layout.layer > 0] == 1).all())
        self._chains = [torch.as_tensor(nodes) for nodes in layout.chains]

    def under(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is added to planes 2 to 4 of nodes (W,): rows of the state, (W, 3, K), and the share of each."""
        planes = torch.tensor([PAST_ENERGY, PAST_HITS, INNER_ENERGY])
        rows = PLANES * self.source[nodes][:, None] + planes[:, None]
        share = MEMORY * self.weight[nodes][:, None].repeat(1, 3, 1)
        rows[:, 2], share[:, 2] = PLANES * self.layout.nothing + INNER_ENERGY, 0
        rows[:, 2, 0], share[:, 2, 0] = PLANES * self.below[nodes] + INNER_ENERGY, 1
        return rows, share

    def of_showers(self, voxels: Tensor) -> Tensor:
        """Return the state of showers (B, V) in MeV, with no voxel between 0 and the threshold."""
        state = torch.zeros(self.layout.nothing + 1, PLANES, len(voxels), device=voxels.device)
        state[self.cell, ENERGY] = voxels.T
        state[self.cell, HITS] = (voxels.T > 0).to(voxels.dtype)
        for nodes in self.layout.by_height:
            at = torch.as_tensor(nodes, device=voxels.device)
            state[at, :2] = state[self.left[at], :2] + state[self.right[at], :2]
        for place in self.layout.layer_slices:
            state[place, 2:4] = state[place, :2] + MEMORY * self._over(state, place)
        state[:, INNER_ENERGY] = state[:, ENERGY]
        for nodes_of_ring in self._chains:  # from the inside out
            at = nodes_of_ring.to(voxels.device)
            state[at, INNER_ENERGY] = state[at, ENERGY] + state[self.below[at], INNER_ENERGY]
        return state

    def _over(self, state: Tensor, nodes: Tensor | slice) -> Tensor:
        """Return the history over nodes in the layer before, (W, 2, B)."""
        if self.aligned:
            return state[self.source[nodes, 0], 2:4]
        return (state[self.source[nodes], 2:4] * self.weight[nodes][:, :, None, None]).sum(1)


def of_layers(energy: Tensor, hits: Tensor, n_slots: int) -> Tensor:
    """Return the state of showers of which only the layers are known, (B, L) each, in the first slots of n_slots."""
    values = torch.stack([energy.T, hits.T], 1)  # (L, 2, B)
    past = [values[0]]
    for now in values[1:]:
        past.append(now + MEMORY * past[-1])
    layers = torch.cat([values, torch.stack(past), values[:, :1]], 1)
    rest = torch.zeros(n_slots - layers.shape[0], PLANES, layers.shape[2], device=energy.device)
    return torch.cat([layers, rest])


def fill(state: Tensor, at: Tensor, rows: Tensor, share: Tensor, energy: Tensor, hits: Tensor) -> Tensor:
    """Return the state with some nodes filled; it is changed in place.

    Args:
        state: (slots, 5, B).
        at: (W,) slots of the nodes.
        rows: (W, 3, K) of the flattened state, of :meth:`TreeState.under`.
        share: (W, 3, K).
        energy: (W, B) MeV.
        hits: (W, B).
    """
    batch = state.shape[2]
    values = torch.stack([energy, hits], 1)
    found = state.reshape(-1, batch).index_select(0, rows.reshape(-1)).reshape(*rows.shape, batch) * share[..., None]
    found = found[:, :, 0] if rows.shape[2] == 1 else found.sum(2)
    values = torch.cat([values, torch.cat([values, values[:, :1]], 1) + found], 1)
    # A graph that is being recorded knows no places.
    return state.index_put((at,), values) if being_recorded() else state.index_copy_(0, at, values)
