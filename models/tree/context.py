"""What a split's networks see, as one row of numbers of order one per split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.tree.layout import Layout, Splits
from caloforge.models.tree.row_mlp import FirstLayer
from caloforge.models.tree.state import ENERGY, HITS, INNER_ENERGY, PAST_ENERGY, PAST_HITS, PLANES

DEPTH_SCALES = (2.0, 6.0)
"""Layers over which the depth features exp(-layer / scale) fall."""


def energy_feature(energy: Tensor, threshold: float) -> Tensor:
    """Return 0.3 log(1 + E / t) - 1."""
    return 0.3 * torch.log1p(energy / threshold) - 1


def hits_feature(hits: Tensor) -> Tensor:
    """Return 0.7 log(1 + n)."""
    return 0.7 * torch.log1p(hits)


@dataclass(frozen=True)
class Where:
    """What splits look at: numbers of rows of the flattened state.

    Attributes:
        energies: (S, columns), or (S, columns, K) of which the K are added up.
        hits: likewise.
    """

    energies: Tensor
    hits: Tensor


class SplitContext(nn.Module):
    """Gather the inputs of one kind of split (the ``names`` of :class:`caloforge.models.tree.layout.Splits`).

    What a network sees of a split is: energies of the nodes that are seen, their hits per cell, energy and
    hits of the node itself, constants of the split (ring, level, depth), features of the shower and of the
    layer, and where the centres of both halves are from the expected axis. A row has those that differ
    from shower to shower; :meth:`first_layer` works out the others once for each split.

    Attributes:
        n_features: inputs of a network.
    """

    energies: Tensor
    hits: Tensor
    energy_weight: Tensor
    hits_weight: Tensor
    per_cell: Tensor
    constants: Tensor
    centres: Tensor
    capacity: Tensor
    layer: Tensor

    def __init__(self, layout: Layout, splits: Splits, *, threshold: float, n_about: int) -> None:
        """Make the tables.

        Args:
            layout: the tree.
            splits: which splits.
            threshold: MeV.
            n_about: features of a shower and of its layer, as given to :meth:`forward`.
        """
        super().__init__()
        self.threshold, self.n_about = threshold, n_about
        energies, hits = _columns(splits.names)
        node = torch.as_tensor(splits.context)
        capacity = torch.cat([torch.as_tensor(layout.capacity).float(), torch.ones(1)])
        columns = torch.tensor([column for _, column in hits])
        seen = [_seen(layout, splits, columns) for columns in (energies, hits)]
        own = torch.zeros_like(seen[0][0][:, :1]) + PLANES * layout.nothing
        own[:, 0, 0] = PLANES * torch.as_tensor(splits.node) + ENERGY
        whole = torch.zeros_like(seen[0][1][:, :1])
        whole[:, :, 0] = 1
        tables = {
            "energies": torch.cat([seen[0][0], own], 1),  # (S, columns, K)
            "energy_weight": torch.cat([seen[0][1], whole], 1),
            "hits": seen[1][0],
            "hits_weight": seen[1][1],
            "per_cell": 1 / capacity[node[:, columns]],
            "constants": _constants(layout, splits),
            "centres": _centres(layout, splits),
            "capacity": capacity[torch.as_tensor(splits.node)],
            "layer": torch.as_tensor(layout.layer[splits.node]),
        }
        self.aligned = seen[0][0].shape[2] == 1
        for name, table in tables.items():
            squeeze = self.aligned and table.ndim == 3
            self.register_buffer(name, table[:, :, 0].contiguous() if squeeze else table, persistent=False)
        # Network inputs: energies | hits | own energy, own hits (3) | constants | about | centres.
        self.sizes = (len(energies), len(hits), 1, 3, self.constants.shape[1], n_about, 4)
        self.n_features = sum(self.sizes)

    @property
    def where(self) -> Where:
        """What is looked at in the state of whole showers."""
        return Where(self.energies, self.hits)

    def first_layer(self, first: nn.Linear, directed: Tensor) -> FirstLayer:
        """Return a network's first layer for the rows of :meth:`forward`, with other inputs behind them if it has any.

        Args:
            first: of ``n_features`` inputs or more.
            directed: 1 where the axis means something, else 0.
        """
        more = first.in_features - self.n_features
        energies, hits, own_energy, own, constants, about, centres, rest = torch.split(
            first.weight, [*self.sizes, more], 1
        )
        fixed = torch.cat([self.constants, directed * self.centres], 1)
        start = F.linear(fixed, torch.cat([constants, centres], 1), first.bias)
        axis = centres[:, :2] + centres[:, 2:]
        return FirstLayer(start, torch.cat([energies, own_energy, hits, own, about, axis, rest], 1))

    def forward(
        self,
        state: Tensor,
        where: Where,
        split: Tensor,
        shower: Tensor,
        energy: Tensor,
        hits: Tensor,
        about: Tensor,
    ) -> Tensor:
        """Return rows (R, F).

        Args:
            state: (M + 1 or slots, 5, B).
            where: what is looked at in that state.
            split: (R,) number of the split.
            shower: (R,) number of the shower in the batch.
            energy: (R,) MeV of the node that is split.
            hits: (R,) of the node, at least 1.
            about: (L, B, n_about + 2) features of shower and layer, and how far the middle of the mesh is from
                the expected axis in x and in y.
        """
        batch = state.shape[2]
        energies = self._look(state, where.energies, self.energy_weight, split, shower)
        counts = self._look(state, where.hits, self.hits_weight, split, shower)
        told = about.reshape(-1, about.shape[2]).index_select(0, self.layer.index_select(0, split) * batch + shower)
        own = torch.stack(
            [
                hits_feature(hits),
                2 * hits / self.capacity.index_select(0, split) - 1,
                0.3 * torch.log(energy / (hits * self.threshold)) - 1,
            ],
            1,
        )
        counts = counts * self.per_cell.index_select(0, split)
        return torch.cat([energy_feature(energies, self.threshold), counts, own, told], 1)

    def _look(self, state: Tensor, index: Tensor, weight: Tensor, split: Tensor, shower: Tensor) -> Tensor:
        """Return numbers of the state, (R, columns)."""
        at = index.index_select(0, split)
        shower = shower[:, None] if self.aligned else shower[:, None, None]
        at = torch.add(shower, at, alpha=state.shape[2])
        seen = state.reshape(-1).index_select(0, at.reshape(-1)).reshape(at.shape)
        return seen if self.aligned else (seen * weight.index_select(0, split)).sum(2)


def _seen(layout: Layout, splits: Splits, columns: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return rows of the flattened state, (S, columns, K), that are summed up for each column, and their weights."""
    node = torch.as_tensor(splits.context)
    source = torch.cat([torch.as_tensor(layout.source), torch.full((1, layout.source.shape[1]), layout.nothing)])
    share = torch.cat([torch.as_tensor(layout.weight).float(), torch.zeros(1, layout.weight.shape[1])])
    own = torch.full_like(source, layout.nothing)
    own[:, 0] = torch.arange(layout.nothing + 1)
    whole = torch.zeros_like(share)
    whole[:, 0] = 1
    index, weight = [], []
    for plane, column in columns:
        before = splits.names[column].startswith("before/")
        index.append(PLANES * (source if before else own)[node[:, column]] + plane)
        weight.append((share if before else whole)[node[:, column]])
    return torch.stack(index, 1), torch.stack(weight, 1)


def _columns(names: tuple[str, ...]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (plane, column of the context) of the energies and of the hits that are seen."""
    energies = [(ENERGY, c) for c in range(len(names))]
    hits = [(HITS, c) for c in range(len(names))]
    before = [c for c, name in enumerate(names) if name.startswith("before/")]
    energies += [(PAST_ENERGY, c) for c in before]
    hits += [(PAST_HITS, c) for c in before]
    energies += [(INNER_ENERGY, c) for c, name in enumerate(names) if name in ("inner-left", "inner-right")]
    return energies, hits


def _constants(layout: Layout, splits: Splits) -> Tensor:
    depth = torch.as_tensor(layout.layer[splits.node]).float()
    columns = [2 * depth / max(1, layout.geometry.n_layers - 1) - 1]
    columns += [torch.exp(-depth / scale) for scale in DEPTH_SCALES]
    columns += [torch.as_tensor(column).float() for column in layout.constants(splits)]
    return torch.stack(columns, 1)


def _centres(layout: Layout, splits: Splits) -> Tensor:
    """Return x and y of the middle of the left and of the right half, (S, 4), in units of the axis."""
    halves = [layout.middles[side[splits.node]] for side in (layout.left, layout.right)]
    return torch.as_tensor(np.concatenate(halves, 1)).float()
