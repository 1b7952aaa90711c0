"""The splitting tree of layers of rings.

A *node* is a box of cells of one layer: some of its rings, some of their alpha bins. A whole layer is
split "ring r | the rings outside it" until single rings are left, and each ring is halved in alpha
down to single cells::

    layer ──┬── ring 0 ──┬── half ── ... ── cell
            │            └── half ── ... ── cell
            └── rings > 0 ──┬── ring 1 ── ...
                            └── rings > 1 ── ...

Splits that do not need each other belong to one *wave* and are drawn together. A split sees the layer
before it at the level of its own halves, and the ring inside it; of two neighbours in alpha the odd one
sees how the even one was split. So layers follow each other at a distance of a few waves, and the 6,075
halvings of 45 layers of 9 rings of 16 bins take 155 waves, not 45 x 9 x 7.

Layers may differ. What a box sees of the layer before it is a weighted sum of that layer's nodes: the
share of each node's area that lies over the box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.models.tree.layout import FloatArray, IntArray, Layout, Shares, Splits, one_hot, tabulated

MAX_ONE_HOT_LAYERS = 12
"""Layers that are unlike each other get a feature each, up to this number."""


@dataclass(frozen=True)
class Box:
    """The cells of a node: rings ``[ring, ring_end)`` and alpha bins ``[bin, bin_end)`` of a layer.

    Attributes:
        layer: index of the active layer.
        ring: first ring.
        ring_end: one past the last ring.
        bin: first alpha bin.
        bin_end: one past the last alpha bin.
        level: halvings in alpha above it; 0 for whole rings.
    """

    layer: int
    ring: int
    ring_end: int
    bin: int
    bin_end: int
    level: int

    @property
    def capacity(self) -> int:
        """Number of cells."""
        return (self.ring_end - self.ring) * (self.bin_end - self.bin)


RING_CONTEXT = ("before/inner", "before/ring", "before/next", "before/outer", "inner", "inner-2", "here", "after")
"""What the split "ring r | rings > r" sees: of the layer before, ring r - 1, r, r + 1 and the rings
outside; of its own layer, rings r - 1 and r - 2; the whole layer, and the whole layer after it."""

CELL_CONTEXT = (
    "before/below", "before/left", "before/right", "before/above",
    "before/inner-left", "before/inner-right", "before/outer-left", "before/outer-right",
    "inner-below", "inner-left", "inner-right", "inner-above",
    "below", "above", "odd-below", "odd-above", "here", "outer", "after",
)  # fmt: skip
"""What the halving of a piece of ring r sees, at the level of its halves (left, right, and those beside
them, below and above in alpha): the layer before at ring r, r - 1 and r + 1; ring r - 1 of its own layer;
its neighbours in ring r, and the halves of those if it is odd; the whole ring r, ring r + 1, and ring r of
the layer after it."""


class RingLayout(Layout):
    """Tables of the tree of a mesh of rings: coarse splits are those into rings, fine ones those of rings.

    Attributes:
        boxes: the M nodes, layer by layer.
    """

    turned = False
    geometry: CylindricalGeometry

    def __init__(self, geometry: CylindricalGeometry) -> None:
        """Lay out the tree of a mesh."""
        self.geometry = geometry
        self.boxes: list[Box] = []
        self._number: dict[Box, int] = {}
        halves: dict[int, tuple[int, int]] = {}
        for i, layer in enumerate(geometry.active_layers):
            self._grow(Box(i, 0, layer.n_r, 0, layer.n_alpha, 0), halves)
        self.nothing = len(self.boxes)
        self.left, self.right = (
            np.array([halves.get(m, (self.nothing, self.nothing))[k] for m in range(self.nothing)]) for k in (0, 1)
        )
        self.capacity = np.array([box.capacity for box in self.boxes])
        # Per ring and level, the node over each alpha bin: cells stay what they are at deeper levels.
        self._over = [
            [_partitions(self, i, r, layer.n_alpha) for r in range(layer.n_r)]
            for i, layer in enumerate(geometry.active_layers)
        ]
        self.layer_node = np.array(
            [self._number[Box(i, 0, layer.n_r, 0, layer.n_alpha, 0)] for i, layer in enumerate(geometry.active_layers)]
        )
        self.cell = np.array(
            [
                self._over[i][r][-1][a]
                for i, layer in enumerate(geometry.active_layers)
                for a in range(layer.n_alpha)
                for r in range(layer.n_r)
            ]
        )
        self.below = np.array(
            [
                self._number[Box(b.layer, b.ring - 1, b.ring, b.bin, b.bin_end, b.level)]
                if b.ring > 0 and b.level > 0
                else self.nothing
                for b in self.boxes
            ]
        )
        self.layer = np.array([box.layer for box in self.boxes])
        self.source, self.weight = tabulated([self._nodes_over(box) for box in self.boxes], self.nothing)
        self.middles = np.array([self._middle(box) for box in self.boxes])
        n_rings = max(layer.n_r for layer in geometry.active_layers)
        of_ring = [[m for m, b in enumerate(self.boxes) if b.ring == r and b.level > 0] for r in range(n_rings)]
        self.chains = [np.array(nodes, np.int64) for nodes in of_ring]
        ring_nodes = [m for m, b in enumerate(self.boxes) if b.ring_end > b.ring + 1]
        cell_nodes = [m for m, b in enumerate(self.boxes) if b.ring_end == b.ring + 1 and b.bin_end > b.bin + 1]
        self.coarse, self.fine = (
            self.in_waves(sorted(nodes, key=self._order), names, context, self._is_odd)
            for nodes, names, context in (
                (ring_nodes, RING_CONTEXT, self._ring_context),
                (cell_nodes, CELL_CONTEXT, self._cell_context),
            )
        )

    def constants(self, splits: Splits) -> list[FloatArray]:
        """Return ring, level and whether it is odd; and the layer, if layers are few and unlike."""
        boxes = [self.boxes[m] for m in splits.node]
        columns = [*one_hot([b.ring for b in boxes]), *one_hot([b.level for b in boxes]), splits.odd.astype(float)]
        if not self.geometry.is_regular and self.geometry.n_layers <= MAX_ONE_HOT_LAYERS:
            columns += one_hot([b.layer for b in boxes])
        return columns

    def _middle(self, box: Box) -> tuple[float, float]:
        layer = self.geometry.active_layers[box.layer]
        if box.bin_end - box.bin == layer.n_alpha:
            return 0.0, 0.0
        radius = (layer.r_edges[box.ring] + layer.r_edges[box.ring_end]) / 2 / self.unit
        alpha = math.pi * (box.bin + box.bin_end) / layer.n_alpha - math.pi
        return radius * math.cos(alpha), radius * math.sin(alpha)

    def node(self, layer: int, ring: int, level: int, bin: int) -> int:
        """Return the node of a ring that covers an alpha bin (periodic) at a level; ``nothing`` beyond the rings."""
        if not 0 <= layer < len(self._over) or not 0 <= ring < len(self._over[layer]):
            return self.nothing
        levels = self._over[layer][ring]
        nodes = levels[min(level, len(levels) - 1)]
        return int(nodes[bin % len(nodes)])

    def _grow(self, box: Box, halves: dict[int, tuple[int, int]]) -> int:
        number = len(self.boxes)
        self.boxes.append(box)
        self._number[box] = number
        if box.capacity > 1:
            first, second = _halves(box)
            halves[number] = (self._grow(first, halves), self._grow(second, halves))
        return number

    def _nodes_over(self, box: Box) -> Shares:
        """Return the nodes of the layer before that lie over a box, with the shares of their areas."""
        if box.layer == 0:
            return []
        here, before = (self.geometry.active_layers[i] for i in (box.layer, box.layer - 1))
        if (here.r_edges, here.n_alpha) == (before.r_edges, before.n_alpha):
            return [(self._number[Box(box.layer - 1, box.ring, box.ring_end, box.bin, box.bin_end, box.level)], 1.0)]
        if box.capacity == here.n_voxels:
            return [(self._number[Box(box.layer - 1, 0, before.n_r, 0, before.n_alpha, 0)], 1.0)]
        start, end = box.bin / here.n_alpha, box.bin_end / here.n_alpha
        return [
            (node, radial * share)
            for ring, radial in radial_overlap(here, box.ring, box.ring_end, before)
            for node, share in self._alpha_cover(box.layer - 1, ring, start, end)
        ]

    def _alpha_cover(self, layer: int, ring: int, start: float, end: float) -> Shares:
        """Return the nodes of a ring that together cover [start, end) of its circumference."""
        n = self.geometry.active_layers[layer].n_alpha
        for level in self._over[layer][ring]:
            for node in np.unique(level):
                box = self.boxes[node]
                if np.allclose([box.bin / n, box.bin_end / n], [start, end]):
                    return [(int(node), 1.0)]
        cells = self._over[layer][ring][-1]
        shares = [(int(cells[a]), n * (min(end, (a + 1) / n) - max(start, a / n))) for a in range(n)]
        return [(node, share) for node, share in shares if share > 1e-9]

    def _order(self, m: int) -> tuple[int, int, int, bool, int]:
        box = self.boxes[m]
        return box.layer, box.ring, box.level, self._is_odd(m), box.bin

    def _is_odd(self, m: int) -> bool:
        box = self.boxes[m]
        level = self._over[box.layer][box.ring][box.level] if box.ring_end == box.ring + 1 else np.array([m])
        return bool(list(dict.fromkeys(level.tolist())).index(m) % 2)

    def _ring_context(self, m: int) -> list[int]:
        box = self.boxes[m]
        i, r, n_r = box.layer, box.ring, box.ring_end
        layers = self.geometry.active_layers
        outer = self.nothing if r + 2 >= n_r else self._number[Box(i, r + 2, n_r, 0, box.bin_end, 0)]
        after = self.layer_node[i + 1] if i + 1 < len(layers) else self.nothing
        rings = [self.node(i, ring, 0, 0) for ring in (r - 1, r, r + 1)]
        return [*rings, outer, rings[0], self.node(i, r - 2, 0, 0), int(self.layer_node[i]), int(after)]

    def _cell_context(self, m: int) -> list[int]:
        box, nothing = self.boxes[m], self.nothing
        i, r, level = box.layer, box.ring, box.level
        down = level + 1
        middle = self.boxes[self.left[m]].bin_end
        pair, window = (box.bin, middle), (box.bin - 1, box.bin, middle, box.bin_end)
        odd = self._is_odd(m)
        sides = (box.bin - 1, box.bin_end)
        return [
            *(self.node(i, r, down, a) for a in window),
            *(self.node(i, r - 1, down, a) for a in pair),
            *(self.node(i, r + 1, down, a) for a in pair),
            *(self.node(i, r - 1, down, a) for a in window),
            *(self.node(i, r, level, a) if level else nothing for a in sides),
            *(self.node(i, r, down, a) if odd else nothing for a in sides),
            self.node(i, r, 0, 0),
            self.node(i, r + 1, 0, 0),
            self._ring_after(i, r),
        ]

    def _ring_after(self, i: int, r: int) -> int:
        """Return the ring of the next layer that lies over the middle of ring r."""
        layers = self.geometry.active_layers
        if i + 1 == len(layers):
            return self.nothing
        middle = (layers[i].r_edges[r] + layers[i].r_edges[r + 1]) / 2
        ring = int(np.searchsorted(layers[i + 1].r_edges, middle)) - 1
        return self.node(i + 1, min(max(ring, 0), layers[i + 1].n_r - 1), 0, 0)


def _halves(box: Box) -> tuple[Box, Box]:
    if box.ring_end > box.ring + 1:
        inner = Box(box.layer, box.ring, box.ring + 1, box.bin, box.bin_end, 0)
        return inner, Box(box.layer, box.ring + 1, box.ring_end, box.bin, box.bin_end, 0)
    middle = (box.bin + box.bin_end) // 2
    rings, down = (box.layer, box.ring, box.ring_end), box.level + 1
    return Box(*rings, box.bin, middle, down), Box(*rings, middle, box.bin_end, down)


def _partitions(layout: RingLayout, layer: int, ring: int, n_alpha: int) -> list[IntArray]:
    """Return per level the node over each alpha bin of a ring, (n_alpha,)."""
    root = layout._number[Box(layer, ring, ring + 1, 0, n_alpha, 0)]
    levels = [np.full(n_alpha, root)]
    while any(layout.left[m] != layout.nothing for m in levels[-1]):
        nodes = levels[-1].copy()
        for a, m in enumerate(levels[-1]):
            if layout.left[m] != layout.nothing:
                nodes[a] = layout.left[m] if a < layout.boxes[layout.left[m]].bin_end else layout.right[m]
        levels.append(nodes)
    return levels


def radial_overlap(here: Layer, ring: int, ring_end: int, before: Layer) -> Iterator[tuple[int, float]]:
    """Yield (ring of ``before``, share of its area over rings ``[ring, ring_end)`` of ``here``).

    What lies inside the first or outside the last edge of ``here`` counts to its first or last ring,
    so that the shares of a ring over all rings of ``here`` add up to 1.
    """
    low = 0.0 if ring == 0 else here.r_edges[ring]
    high = np.inf if ring_end == here.n_r else here.r_edges[ring_end]
    for r, (a, b) in enumerate(pairwise(before.r_edges)):
        share = (np.clip(b, low, high) ** 2 - np.clip(a, low, high) ** 2) / (b**2 - a**2)
        if share > 1e-9:
            yield r, float(share)
