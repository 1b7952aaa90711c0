"""What a split's networks see, as one row of numbers of order one per split."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from caloforge.models.tree.layout import Layout, Splits
from caloforge.models.tree.state import ENERGY, HITS, INNER_ENERGY, PAST_ENERGY, PAST_HITS, PLANES

DEPTH_SCALES = (2.0, 6.0)
"""Layers over which the depth features exp(-layer / scale) fall."""

MAX_ONE_HOT_LAYERS = 12
"""Layers that are unlike each other get a feature each, up to this number."""


def energy_feature(energy: Tensor, threshold: float) -> Tensor:
    """Return 0.3 log(1 + E / t) - 1."""
    return 0.3 * torch.log1p(energy / threshold) - 1


def hits_feature(hits: Tensor) -> Tensor:
    """Return 0.7 log(1 + n)."""
    return 0.7 * torch.log1p(hits)


class SplitContext(nn.Module):
    """Gather the inputs of one kind of split (:data:`caloforge.models.tree.layout.RING_CONTEXT` or cells').

    A row is: energies of the nodes that are seen, their hits per cell, energy and hits of the node
    itself, constants of the split (ring, level, depth), features of the shower and of the layer, and
    where the centres of both halves are from the expected axis.

    Attributes:
        n_features: length of a row.
    """

    index: Tensor
    weight: Tensor
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
            n_about: features of a shower and of its layer, as given to :meth:`forward`; the last three are
                those of :class:`caloforge.models.tree.axis.ExpectedAxis`.
        """
        super().__init__()
        self.threshold = threshold
        energies, hits = _columns(splits.names)
        node = torch.as_tensor(splits.context)
        source = torch.cat([torch.as_tensor(layout.source), torch.full((1, layout.source.shape[1]), layout.nothing)])
        share = torch.cat([torch.as_tensor(layout.weight).float(), torch.zeros(1, layout.weight.shape[1])])
        own = torch.full_like(source, layout.nothing)
        own[:, 0] = torch.arange(layout.nothing + 1)
        whole = torch.zeros_like(share)
        whole[:, 0] = 1
        index, weight = [], []
        for plane, column in energies + hits:
            before = splits.names[column].startswith("before/")
            seen = (source if before else own)[node[:, column]]
            index.append(PLANES * seen + plane)
            weight.append((share if before else whole)[node[:, column]])
        capacity = torch.cat([torch.as_tensor(layout.capacity).float(), torch.ones(1)])
        self.n_energies = len(energies)
        self.register_buffer("index", torch.stack(index, 1), persistent=False)  # (S, columns, K)
        self.register_buffer("weight", torch.stack(weight, 1), persistent=False)
        columns = torch.tensor([column for _, column in hits])
        self.register_buffer("per_cell", 1 / capacity[node[:, columns]], persistent=False)
        self.register_buffer("constants", _constants(layout, splits), persistent=False)
        self.register_buffer("centres", _centres(layout, splits), persistent=False)
        self.register_buffer("capacity", capacity[torch.as_tensor(splits.node)], persistent=False)
        self.register_buffer("layer", torch.as_tensor(layout.layer[splits.node]), persistent=False)
        self.axis_unit = _axis_unit(layout)
        self.aligned = self.index.shape[2] == 1
        if self.aligned:
            self.index, self.weight = self.index[:, :, 0], self.weight[:, :, 0]
        self.n_features = len(energies) + len(hits) + 4 + self.constants.shape[1] + 4 + n_about - 3

    def forward(
        self, state: Tensor, split: Tensor, shower: Tensor, energy: Tensor, hits: Tensor, about: Tensor
    ) -> Tensor:
        """Return rows (R, n_features).

        Args:
            state: (M + 1, 5, B).
            split: (R,) number of the split.
            shower: (R,) number of the shower in the batch.
            energy: (R,) MeV of the node that is split.
            hits: (R,) of the node, at least 1.
            about: (L, B, n_about) features of shower and layer.
        """
        batch = state.shape[2]
        index = self.index[split]
        shower_of = shower[:, None] if self.aligned else shower[:, None, None]
        seen = state.reshape(-1)[torch.add(shower_of, index, alpha=batch)]
        if not self.aligned:
            seen = (seen * self.weight[split]).sum(2)
        energies, counts = seen[:, : self.n_energies], seen[:, self.n_energies :]
        capacity = self.capacity[split]
        told = about.flatten(0, 1)[self.layer[split] * batch + shower]
        known, directed, axis = told[:, :-3], told[:, -3:-2], told[:, -2:]
        own = torch.stack(
            [
                energy_feature(energy, self.threshold),
                hits_feature(hits),
                2 * hits / capacity - 1,
                0.3 * torch.log(energy / (hits * self.threshold)) - 1,
            ],
            1,
        )
        return torch.cat(
            [
                energy_feature(energies, self.threshold),
                counts * self.per_cell[split],
                own,
                self.constants[split],
                known,
                directed * (self.centres[split] - torch.cat([axis, axis], 1) / self.axis_unit),
            ],
            1,
        )


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
    boxes = [layout.boxes[m] for m in splits.node]
    layers = layout.geometry.active_layers
    depth = torch.tensor([float(b.layer) for b in boxes])
    columns = [2 * depth / max(1, len(layers) - 1) - 1, *(torch.exp(-depth / scale) for scale in DEPTH_SCALES)]
    columns += _one_hot([b.ring for b in boxes])
    columns += _one_hot([b.level for b in boxes])
    columns.append(torch.as_tensor(splits.odd).float())
    if not layout.geometry.is_regular and len(layers) <= MAX_ONE_HOT_LAYERS:
        columns += _one_hot([b.layer for b in boxes])
    return torch.stack(columns, 1)


def _axis_unit(layout: Layout) -> float:
    """Return the length in mm in which distances from the axis are of order one."""
    return max(layer.r_edges[-1] for layer in layout.geometry.active_layers) / 4


def _centres(layout: Layout, splits: Splits) -> Tensor:
    """Return x and y of the middle of the left and of the right half, (S, 4), in units of the axis."""
    centres = []
    for m in splits.node:
        row = []
        for half in (layout.boxes[layout.left[m]], layout.boxes[layout.right[m]]):
            layer = layout.geometry.active_layers[half.layer]
            radius = (layer.r_edges[half.ring] + layer.r_edges[half.ring_end]) / 2 / _axis_unit(layout)
            alpha = math.pi * (half.bin + half.bin_end) / layer.n_alpha - math.pi
            whole = half.bin_end - half.bin == layer.n_alpha
            row += [0.0, 0.0] if whole else [radius * math.cos(alpha), radius * math.sin(alpha)]
        centres.append(row)
    return torch.tensor(centres).reshape(-1, 4)


def _one_hot(values: list[int]) -> list[Tensor]:
    """Return a column per value from 0 to the largest, none if there is only one."""
    if len(set(values)) < 2:
        return []
    return [torch.tensor([float(v == k) for v in values]) for k in range(max(values) + 1)]
