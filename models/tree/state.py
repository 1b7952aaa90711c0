"""Hits and energies of all nodes of a batch of showers, and the sums that later splits look at.

The state is one tensor (5, M + 1, B): per plane, node and shower

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
    cell: Tensor
    layer: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        for name in ("left", "right", "below", "source", "cell"):
            self.register_buffer(name, torch.as_tensor(getattr(layout, name)), persistent=False)
        self.register_buffer("layer", torch.as_tensor(layout.layer_node), persistent=False)
        self.register_buffer("weight", torch.as_tensor(layout.weight).float(), persistent=False)
        # Where layers are alike each node has one node over it, with weight 1.
        self.aligned = bool((layout.source.shape[1] == 1) and (layout.weight[layout.layer > 0] == 1).all())
        self._by_ring = [
            [m for m, b in enumerate(layout.boxes) if b.ring == r and b.level > 0]
            for r in range(max(layer.n_r for layer in layout.geometry.active_layers))
        ]

    def empty(self, batch: int, device: torch.device) -> Tensor:
        """Return the state of showers without anything."""
        return torch.zeros(PLANES, self.layout.nothing + 1, batch, device=device)

    def fill(self, state: Tensor, nodes: Tensor, energy: Tensor, hits: Tensor) -> None:
        """Set energies and hits (W, B) of nodes (W,); the layer before and the ring inside are there already."""
        values = torch.stack([energy, hits])
        state[:2, nodes] = values
        state[2:4, nodes] = values + MEMORY * self._over(state[2:4], nodes)
        state[4, nodes] = energy + state[4, self.below[nodes]]

    def of_layers(self, energy: Tensor, hits: Tensor) -> Tensor:
        """Return the state of showers of which only the layers are known, (B, L) each."""
        state = self.empty(len(energy), energy.device)
        for i in range(energy.shape[1]):  # one by one: each has a history of those before it
            self.fill(state, self.layer[i : i + 1], energy.T[i : i + 1], hits.T[i : i + 1])
        return state

    def of_showers(self, voxels: Tensor) -> Tensor:
        """Return the state of showers (B, V) in MeV, with no voxel between 0 and the threshold."""
        state = self.empty(len(voxels), voxels.device)
        state[0, self.cell] = voxels.T
        state[1, self.cell] = (voxels.T > 0).to(voxels.dtype)
        for nodes in self.layout.by_height:
            at = torch.as_tensor(nodes, device=voxels.device)
            state[:2, at] = state[:2, self.left[at]] + state[:2, self.right[at]]
        for place in self.layout.layer_slices:
            nodes = slice(place.start, place.stop)
            state[2:4, nodes] = state[:2, nodes] + MEMORY * self._over(state[2:4], nodes)
        state[4] = state[0]
        for ring in self._by_ring:  # from the inside out
            at = torch.as_tensor(ring, dtype=torch.long, device=voxels.device)
            state[4, at] = state[0, at] + state[4, self.below[at]]
        return state

    def _over(self, planes: Tensor, nodes: Tensor | slice) -> Tensor:
        """Return what lies over nodes in the layer before, (planes, W, B)."""
        if self.aligned:
            return planes[:, self.source[nodes, 0]]
        return (planes[:, self.source[nodes]] * self.weight[nodes][None, :, :, None]).sum(2)
