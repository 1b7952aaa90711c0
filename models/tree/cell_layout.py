"""The splitting tree of layers of any cells: a binary space partition.

A node is a group of cells of a layer. It is cut in two across x or y where no cell is cut, as evenly as can be, down
to single cells. Nodes of more than :data:`FINE` cells are split by the coarse networks, the others by the fine ones.

A split sees what lies beside its halves, and what lies over them in the layer before. Of two neighbours the odd one is
split after the even one, and sees its halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from caloforge.errors import InputError
from caloforge.geometry import CellGeometry
from caloforge.models.tree.layout import BoolArray, FloatArray, IntArray, Layout, Shares, Splits, one_hot, tabulated

FINE = 16
"""Most cells of a node that is split by the fine networks."""

MOST_CELLS = 4000
"""Of a layer: the coarse networks have a class for each number of hits of a half."""

MOST_KNOWN = 512
"""Splits of a kind that are known to their networks one by one."""

CONTEXT = (
    "before/first", "before/second", "before/below", "before/above",
    "below", "above", "first-minus", "first-plus", "second-minus", "second-plus",
    "odd-below", "odd-above", "odd-first-minus", "odd-first-plus", "odd-second-minus", "odd-second-plus",
    "here", "sibling", "outer", "after",
)  # fmt: skip
"""What a split sees: the layer before over its halves and over what lies below the first and above the second along the
cut axis; what lies there, and beside the halves across it, in its own layer; the same again, of neighbours that are
split before it, by their halves; the whole layer; the other half of the node above, and of the one above that; the
whole layer after it."""


@dataclass(frozen=True)
class Piece:
    """A node.

    Attributes:
        layer: its layer.
        cells: numbers of its cells among all voxels.
        depth: cuts above it.
        box: (2, 2) least and greatest x, least and greatest y, mm.
        axis: across which it is cut: 0 for x, 1 for y.
        parent: number of the node that it is a half of; -1 of whole layers.
    """

    layer: int
    cells: IntArray
    depth: int
    box: FloatArray
    axis: int
    parent: int


class CellLayout(Layout):
    """Tables of the tree of cells.

    Attributes:
        pieces: the M nodes, layer by layer.
    """

    turned = True
    geometry: CellGeometry

    def __init__(self, geometry: CellGeometry) -> None:
        """Lay out the tree of cells.

        Raises:
            InputError: a layer has too many cells.
        """
        if (most := max(geometry.layer_sizes)) > MOST_CELLS:
            raise InputError(
                f"geometry {geometry.name!r} has a layer of {most} cells; family tree takes {MOST_CELLS} at most: "
                "choose another family"
            )
        self.geometry = geometry
        centre = np.stack([geometry.eta_of_voxel, geometry.phi_of_voxel], 1)
        size = np.stack([geometry.width_of_voxel, geometry.height_of_voxel], 1)
        self._low, self._high = centre - size / 2, centre + size / 2
        self._near = 0.5 * float(size.min())
        self.pieces: list[Piece] = []
        halves: dict[int, tuple[int, int]] = {}
        voxels = np.arange(geometry.n_voxels)
        self.layer_node = np.array(
            [self._grow(i, voxels[s], 0, -1, halves) for i, s in enumerate(geometry.layer_slices)]
        )
        self.nothing = len(self.pieces)
        self.left, self.right = (
            np.array([halves.get(m, (self.nothing, self.nothing))[k] for m in range(self.nothing)]) for k in (0, 1)
        )
        self.layer = np.array([piece.layer for piece in self.pieces])
        self.capacity = np.array([len(piece.cells) for piece in self.pieces])
        self.cell = np.empty(geometry.n_voxels, np.int64)
        for m, piece in enumerate(self.pieces):
            if len(piece.cells) == 1:
                self.cell[piece.cells[0]] = m
        self.below = np.full(self.nothing, self.nothing)
        self.chains: Sequence[IntArray] = []
        self.boxes = np.stack([piece.box for piece in self.pieces])  # (M, 2, 2)
        self.middles = self.boxes.mean(2) / self.unit
        self.source, self.weight = tabulated([self._over(m) for m in range(self.nothing)], self.nothing)
        self._odd = self._coloured()
        split = [m for m in range(self.nothing) if self.capacity[m] > 1]
        self.coarse, self.fine = (
            self.in_waves(
                sorted((m for m in split if (self.capacity[m] > FINE) == coarse), key=self._order),
                CONTEXT,
                lambda m, coarse=coarse: self._context(m, coarse=coarse),  # type: ignore[misc]
                lambda m: m in self._odd,
            )
            for coarse in (True, False)
        )

    def constants(self, splits: Splits) -> list[FloatArray]:
        """Return sizes and places of the halves, the axis of the cut, whether it is odd, and which split it is."""
        halves = self.left[splits.node], self.right[splits.node]
        columns = [splits.odd.astype(float), np.array([float(self.pieces[m].axis) for m in splits.node])]
        for half in halves:
            columns += [
                np.log2(self.capacity[half]) / 4, *self.middles[half].T, np.hypot(*self.middles[half].T),
                np.log((self.boxes[half, :, 1] - self.boxes[half, :, 0]).prod(1) / self.unit**2),
            ]  # fmt: skip
        first = self.layer_node[self.layer[splits.node]] if self.geometry.is_regular else 0
        numbers = np.unique(splits.node - first, return_inverse=True)[1]
        return columns + (one_hot(numbers.tolist()) if numbers.max(initial=0) < MOST_KNOWN else [])

    def _grow(self, layer: int, cells: IntArray, depth: int, parent: int, halves: dict[int, tuple[int, int]]) -> int:
        number = len(self.pieces)
        box = np.stack([self._low[cells].min(0), self._high[cells].max(0)], 1)
        axis, first = _cut(self._low[cells], self._high[cells], self._near) if len(cells) > 1 else (0, np.ones(1, bool))
        self.pieces.append(Piece(layer, cells, depth, box, axis, parent))
        if len(cells) > 1:
            halves[number] = (
                self._grow(layer, cells[first], depth + 1, number, halves),
                self._grow(layer, cells[~first], depth + 1, number, halves),
            )
        return number

    def _over(self, m: int) -> Shares:
        """Return the nodes of the layer before that lie over a node, with the shares of their areas."""
        layer = self.layer[m]
        if layer == 0:
            return []
        before = int(self.layer_node[layer - 1])
        if self.geometry.continues(layer):
            return [(m - int(self.layer_node[layer]) + before, 1.0)]
        if m == self.layer_node[layer]:
            return [(before, 1.0)]
        return self._cover(before, self.boxes[m], FINE if self._is_made_early(m) else 1)

    def _is_made_early(self, m: int) -> bool:
        """Whether a node is a half of a coarse split: those have all been drawn when the first fine one is."""
        parent = self.pieces[m].parent
        return parent < 0 or bool(self.capacity[parent] > FINE)

    def _cover(self, node: int, box: FloatArray, least: int) -> Shares:
        """Return nodes that together lie over a box; those of at most ``least`` cells are not taken apart."""
        theirs = self.boxes[node]
        overlap = np.clip(theirs, *box[:, :, None].transpose(1, 0, 2))
        share = float(np.prod((overlap[:, 1] - overlap[:, 0]) / (theirs[:, 1] - theirs[:, 0])))
        if share < 1e-6:
            return []
        if share > 1 - 1e-6 or self.capacity[node] <= least:
            return [(node, share)]
        return self._cover(self.left[node], box, least) + self._cover(self.right[node], box, least)

    def _order(self, m: int) -> tuple[int, int, bool, int]:
        return self.pieces[m].layer, self.pieces[m].depth, m in self._odd, m

    def _coloured(self) -> set[int]:
        """Return the nodes that are split after a neighbour of the same depth."""
        odd: set[int] = set()
        even: dict[tuple[int, int], list[int]] = {}
        for m, piece in enumerate(self.pieces):
            if self.capacity[m] > 1:
                others = even.setdefault((piece.layer, piece.depth), [])
                if len(others) and self._touching(self.boxes[m], np.array(others)).any():
                    odd.add(m)
                else:
                    others.append(m)
        return odd

    def _touching(self, box: FloatArray, nodes: IntArray) -> FloatArray:
        """Return the length in mm along which nodes lie beside a box, (n,); 0 where they do not."""
        gap = np.maximum(self.boxes[nodes, :, 0] - box[:, 1], box[:, 0] - self.boxes[nodes, :, 1])  # (n, 2)
        beside: FloatArray = np.where(gap.max(1) < self._near, np.maximum(-gap.min(1), 0), 0)
        return beside

    def _context(self, m: int, *, coarse: bool) -> list[int]:
        piece, axis = self.pieces[m], self.pieces[m].axis
        first, second = int(self.left[m]), int(self.right[m])
        known = self._known(piece.layer, piece.depth, coarse)
        known = known[known != m]
        odd = m in self._odd
        newer = self._newer(known, piece.depth, coarse) if odd else np.empty(0, np.int64)
        sides = [(first, axis, -1), (second, axis, 1)]
        sides += [(half, 1 - axis, sign) for half in (first, second) for sign in (-1, 1)]
        beside = [self._beside(half, along, sign, known) for half, along, sign in sides]
        halves_beside = [self._beside(half, along, sign, newer) for half, along, sign in sides]
        next_layer = piece.layer + 1
        after = int(self.layer_node[next_layer]) if next_layer < self.geometry.n_layers else self.nothing
        sibling = self._sibling(m)
        outer = self._sibling(piece.parent) if piece.parent >= 0 else self.nothing
        here = int(self.layer_node[piece.layer])
        return [first, second, *beside[:2], *beside, *halves_beside, here, sibling, outer, after]

    def _sibling(self, m: int) -> int:
        parent = self.pieces[m].parent
        if parent < 0:
            return self.nothing
        return int(self.right[parent] if self.left[parent] == m else self.left[parent])

    @cache  # noqa: B019 - as long as the layout is laid out
    def _known(self, layer: int, depth: int, coarse: bool) -> IntArray:
        """Return the smallest nodes of a layer that are known when nodes of a depth are split."""
        found: list[int] = []
        open_nodes = [int(self.layer_node[layer])]
        while open_nodes:
            m = open_nodes.pop()
            large = self.capacity[m] > FINE
            descend = (large and self.pieces[m].depth < depth) if coarse else (large or self.pieces[m].depth < depth)
            if descend and self.capacity[m] > 1:
                open_nodes += [int(self.right[m]), int(self.left[m])]
            else:
                found.append(m)
        return np.array(found)

    def _newer(self, known: IntArray, depth: int, coarse: bool) -> IntArray:
        """Return the halves of known nodes that are split before the odd ones of a depth."""
        split = [
            m
            for m in known.tolist()
            if self.pieces[m].depth == depth
            and self.capacity[m] > 1
            and m not in self._odd
            and (self.capacity[m] > FINE) == coarse
        ]
        return np.array([half for m in split for half in (self.left[m], self.right[m])], np.int64)

    def _beside(self, m: int, axis: int, sign: int, nodes: IntArray) -> int:
        """Return of some nodes the one that lies most beside a node, on one side of it; ``nothing`` if none does."""
        if not len(nodes):
            return self.nothing
        box = self.boxes[m]
        length = self._touching(box, nodes)
        ahead = sign * (self.boxes[nodes, axis].mean(1) - box[axis].mean())
        ahead -= (self.boxes[nodes, axis, 1] - self.boxes[nodes, axis, 0] + box[axis, 1] - box[axis, 0]) / 2
        length = np.where(ahead > -self._near, length, 0)
        best = int(np.argmax(length))
        return int(nodes[best]) if length[best] > 0 else self.nothing


def _cut(low: FloatArray, high: FloatArray, near: float) -> tuple[int, BoolArray]:
    """Return across which axis cells (n, 2) are cut, and which of them are in the first half, (n,).

    The cut that halves their number best is taken, of equals the one across the longer side. Where every cut would go
    through a cell, the cells are parted by the order of their middles.
    """
    n = len(low)
    extent = high.max(0) - low.min(0)
    best: tuple[float, int, BoolArray] | None = None
    for axis in sorted((0, 1), key=lambda k: -extent[k]):
        order = np.argsort(low[:, axis] + high[:, axis], kind="stable")
        reach = np.maximum.accumulate(high[order, axis])[:-1]
        start = np.minimum.accumulate(low[order[::-1], axis])[::-1][1:]
        clean = np.flatnonzero(reach - start < 0.1 * near) + 1  # cells in the first half
        if len(clean):
            number = int(clean[np.argmin(np.abs(clean - n / 2))])
            uneven = abs(number - n / 2)
            if best is None or uneven < 0.9 * best[0] - 1e-9:
                best = (uneven, axis, np.isin(np.arange(n), order[:number]))
    if best is not None:
        return best[1], best[2]
    axis = int(np.argmax(extent))
    order = np.argsort(low[:, axis] + high[:, axis], kind="stable")
    return axis, np.isin(np.arange(n), order[: n // 2])
