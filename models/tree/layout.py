"""The splitting tree of a geometry as tables: nodes, their halves, and what each split may look at.

A *node* is a group of voxels of one layer. Whole layers are split into halves, these into halves, down to single
voxels: first by *coarse* splits, then by *fine* ones, of which each kind has networks of its own. Splits that do not
need each other belong to one *wave* and are drawn together.

What a node sees of the layer before it is a weighted sum of that layer's nodes: the share of each node's area that
lies over it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Geometry

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

Shares = list[tuple[int, float]]
"""Nodes and the share of each that counts."""


@dataclass(frozen=True)
class Splits:
    """One kind of split, S of them, ordered by wave.

    Attributes:
        node: (S,) the node that is split.
        wave: (S,) rising numbers from 0.
        odd: (S,) whether it is split after its neighbours in alpha, and sees their halves.
        context: (S, C) per column a node that is seen, :attr:`Layout.nothing` where there is none.
        names: the C columns.
    """

    node: IntArray
    wave: IntArray
    odd: BoolArray
    context: IntArray
    names: tuple[str, ...]

    @cached_property
    def waves(self) -> tuple[slice, ...]:
        """The splits of each wave."""
        edges = np.searchsorted(self.wave, np.arange(self.wave.max(initial=-1) + 2))
        return tuple(slice(int(a), int(b)) for a, b in pairwise(edges))


class Layout(ABC):
    """Tables of the tree of one geometry.

    Attributes:
        geometry: the geometry.
        nothing: M, the number of nodes, that stands for "no node".
        layer: (M,) layer of each node.
        left: (M,) first half; ``nothing`` for voxels.
        right: (M,) second half; ``nothing`` for voxels.
        capacity: (M,) number of voxels.
        layer_node: (L,) the node of each whole layer.
        cell: (V,) the node of each voxel.
        below: (M,) the same piece of the next inner ring; ``nothing`` where there is none.
        source: (M, K) nodes of the layer before that lie over each node.
        weight: (M, K) share of their area that does.
        middles: (M, 2) x and y of the middle of each node, in units of :attr:`unit`; 0 of what lies about the axis.
        coarse: splits of large nodes, drawn first: of layers of rings, those into rings.
        fine: the other splits, down to single voxels.
        turned: whether coarse splits look different in showers that are turned.
        chains: groups of nodes that have a node below, from the inside out.
    """

    geometry: Geometry
    nothing: int
    layer: IntArray
    left: IntArray
    right: IntArray
    capacity: IntArray
    layer_node: IntArray
    cell: IntArray
    below: IntArray
    source: IntArray
    weight: FloatArray
    middles: FloatArray
    coarse: Splits
    fine: Splits
    turned: bool
    chains: Sequence[IntArray]

    @abstractmethod
    def constants(self, splits: Splits) -> list[FloatArray]:
        """Return what networks are told of splits beside the layer, a column (S,) each."""

    @cached_property
    def unit(self) -> float:
        """Length in mm in which distances from the axis are of order one."""
        return self.geometry.radius / 4

    def __len__(self) -> int:
        """Return the number of nodes M."""
        return self.nothing

    @cached_property
    def layer_slices(self) -> tuple[slice, ...]:
        """The nodes of each layer."""
        edges = np.searchsorted(self.layer, np.arange(self.geometry.n_layers + 1))
        return tuple(slice(int(a), int(b)) for a, b in pairwise(edges))

    @cached_property
    def by_height(self) -> tuple[IntArray, ...]:
        """The nodes that can be split, by their distance from the voxels: 1, 2, ..."""
        height = np.zeros(len(self) + 1, np.int64)
        for m in reversed(range(len(self))):  # halves have higher numbers than what they are halves of
            if self.left[m] != self.nothing:
                height[m] = 1 + max(height[self.left[m]], height[self.right[m]])
        return tuple(np.flatnonzero(height[:-1] == h) for h in range(1, height.max() + 1))

    def in_waves(
        self,
        order: Sequence[int],
        names: tuple[str, ...],
        context_of: Callable[[int], Sequence[int]],
        is_odd: Callable[[int], bool],
    ) -> Splits:
        """Order splits by waves: each comes one after the last of those that made a node it sees.

        Args:
            order: nodes that are split, none before one that it sees the halves of.
            names: what the splits see.
            context_of: takes a node to the nodes that its split sees.
            is_odd: whether the split of a node is one after those of its neighbours.
        """
        made = np.zeros(self.nothing + 1, np.int64)
        contexts, waves, odd = [], [], []
        for m in order:
            context = context_of(m)
            contexts.append(context)
            odd.append(is_odd(m))
            seen = [m]
            for name, node in zip(names, context, strict=True):
                if node != self.nothing:
                    seen += (
                        [s for s, w in zip(self.source[node], self.weight[node], strict=True) if w]
                        if (name.startswith("before/"))
                        else [node]
                    )
            wave = max(made[n] for n in seen)
            waves.append(wave)
            made[[self.left[m], self.right[m]]] = wave + 1
        if not order:
            none = np.zeros(0, np.int64)
            return Splits(none, none, none > 0, np.zeros((0, len(names)), np.int64), names)
        by_wave = np.argsort(waves, kind="stable")
        return Splits(
            np.array(order)[by_wave],
            np.array(waves)[by_wave],
            np.array(odd)[by_wave],
            np.array(contexts)[by_wave],
            names,
        )


def one_hot(values: Sequence[int]) -> list[FloatArray]:
    """Return a column for each value from 0 to the largest, none if there is only one."""
    if len(set(values)) < 2:
        return []
    return [np.array([float(v == k) for v in values]) for k in range(max(values) + 1)]


def tabulated(found: Sequence[Shares], nothing: int) -> tuple[IntArray, FloatArray]:
    """Return the nodes (M, K) that lie over each node, and their shares; of K, those that are none are ``nothing``."""
    width = max(1, *(len(shares) for shares in found))
    source = np.full((len(found), width), nothing)
    weight = np.zeros((len(found), width))
    for m, shares in enumerate(found):
        for k, (node, share) in enumerate(shares):
            source[m, k], weight[m, k] = node, share
    return source, weight
