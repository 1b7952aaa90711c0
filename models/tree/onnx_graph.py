"""The tree as an ONNX graph: its steps are recorded once each, and loops run over their tables.

Unrolled, the waves of a shower would be tens of thousands of operations. Instead each step (a layer, a
wave) is traced, and a script calls it for each row of a table; ONNX gets one ``Loop`` for each stage.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from caloforge.models.family import write_graph
from caloforge.models.tree.boxes import BoxSplits
from caloforge.models.tree.rows import SplitNetworks
from caloforge.models.tree.state import ENERGY, HITS, PLANES

if TYPE_CHECKING:
    from caloforge.models.families.tree import Tree

Tables = tuple[Tensor, Tensor, Tensor]
"""Splits (waves, W), energy and hits of their nodes in the flattened state (waves, W, 2), and their halves
(waves, 2 W); short waves are filled up with splits of the node "nothing", which has no hits."""


def write_onnx(tree: Tree, path: Path, conditions: Tensor, noise: Tensor) -> None:
    """Write the graph; see :meth:`caloforge.models.family.Family.write_onnx`."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing and scripting are called deprecated; nothing newer has loops
        graph = _Graph(tree, conditions, noise).eval()
        entry = torch.jit.script(_ENTRIES[len(tree.data.conditions)](torch.jit.script(graph)))
        write_graph(entry, path, conditions, noise, names=tree.data.conditions)


def wave_tables(splits: BoxSplits, which: int, nothing: int) -> Tables:
    """Return the waves that are drawn with one of the networks, filled up to the same length."""
    waves = [(a, b) for a, b, network in splits.waves if network == which]
    width = max((b - a for a, b in waves), default=1)
    split = torch.zeros(len(waves), width, dtype=torch.long)
    of_node = (PLANES * nothing + torch.tensor([ENERGY, HITS])).repeat(len(waves), width, 1)
    left, right = torch.full_like(split, nothing), torch.full_like(split, nothing)
    for row, (a, b) in enumerate(waves):
        n = b - a
        split[row, :n] = torch.arange(a, b)
        of_node[row, :n] = splits.of_node[a:b]
        left[row, :n], right[row, :n] = splits.halves[2 * a : 2 * b].chunk(2)
    return split, of_node, torch.cat([left, right], 1)


class _Head(nn.Module):
    """Conditions and noise to totals, features of the shower, and the noise of the other stages."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.tree = tree

    def forward(self, conditions: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        for_totals, *others = self.tree.uniform(noise)
        energy, hits, shower, nothing = self.tree.begin_showers(conditions, for_totals)
        return (energy, hits, shower, nothing, *others)


class _LayerStep(nn.Module):
    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.layers = tree.layers

    def forward(
        self, i: Tensor, e: Tensor, n: Tensor, energy: Tensor, hits: Tensor, shower: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.layers.step(i, e, n, energy, hits, shower, noise)


class _Middle(nn.Module):
    """Layers to the state in which boxes are split, and what their networks are told."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.tree = tree

    def forward(
        self, conditions: Tensor, e: Tensor, n: Tensor, energy: Tensor, hits: Tensor, shower: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.tree.begin_boxes(conditions, *self.tree.layers.with_last(e, n, energy, hits), shower)


class _WaveStep(nn.Module):
    def __init__(self, tree: Tree, splits: BoxSplits, networks: SplitNetworks) -> None:
        super().__init__()
        self.state, self.splits = tree.state, splits
        self.networks = networks
        self.drawing = splits.drawing(networks, tree.axis.directed)

    def forward(
        self, state: Tensor, about: Tensor, u: Tensor, split: Tensor, of_node: Tensor, halves: Tensor
    ) -> Tensor:
        return self.splits.wave(self.state, state, about, u, split, of_node, halves, self.drawing)


class _Waves(nn.Module):
    """The loop over the waves that are drawn with one of the networks."""

    def __init__(
        self, tree: Tree, splits: BoxSplits, networks: SplitNetworks, which: int, example: tuple[Tensor, ...]
    ) -> None:
        super().__init__()
        self.split, self.of_node, self.halves = wave_tables(splits, which, tree.state.layout.nothing)
        self.n_waves = len(self.split)
        wave = _WaveStep(tree, splits, networks) if self.n_waves else _Idle()
        first = (
            torch.zeros(1, dtype=torch.long),
            torch.zeros(1, 2, dtype=torch.long),
            torch.zeros(2, dtype=torch.long),
        )
        if self.n_waves:
            first = (self.split[0], self.of_node[0], self.halves[0])
        trace: Any = torch.jit.trace
        self.wave = trace(wave, (*example, *first), check_trace=False)

    def forward(self, state: Tensor, about: Tensor, u: Tensor) -> Tensor:
        # A number of turns that is known when the graph is made would be unrolled.
        for i in range(self.n_waves + 0 * state.shape[2]):
            state = self.wave(state, about, u, self.split[i], self.of_node[i], self.halves[i])
        return state


class _Tail(nn.Module):
    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.tree = tree

    def forward(self, state: Tensor) -> Tensor:
        return self.tree.cells_of(state)


class _Graph(nn.Module):
    """The traced steps and the loops over them; a script, so its types are plain."""

    def __init__(self, tree: Tree, conditions: Tensor, noise: Tensor) -> None:
        super().__init__()
        trace: Any = torch.jit.trace
        self.n_layer_splits = len(tree.layers)
        self.head = trace(_Head(tree), (conditions, noise), check_trace=False)
        energy, hits, shower, nothing, for_layers, for_rings, for_cells = self.head(conditions, noise)
        step = (torch.tensor(0), nothing, nothing, energy, hits, shower, for_layers)
        self.layer_step = trace(_LayerStep(tree), step, check_trace=False)
        e, n = tree.layers.draw(energy, hits, shower, for_layers)
        rest = torch.zeros_like(energy)
        self.middle = trace(_Middle(tree), (conditions, e, n, rest, rest, shower), check_trace=False)
        state, about = self.middle(conditions, e, n, rest, rest, shower)
        given = (state, about)
        self.rings = torch.jit.script(_Waves(tree, tree.ring_splits, tree.rings, 0, (*given, for_rings)))
        self.early = torch.jit.script(_Waves(tree, tree.cell_splits, tree.early, 1, (*given, for_cells)))
        self.cells = torch.jit.script(_Waves(tree, tree.cell_splits, tree.cells, 0, (*given, for_cells)))
        self.tail = trace(_Tail(tree), (state,), check_trace=False)

    def forward(self, conditions: Tensor, noise: Tensor) -> Tensor:
        energy, hits, shower, e, for_layers, for_rings, for_cells = self.head(conditions, noise)
        n = e
        for i in range(self.n_layer_splits + 0 * noise.shape[0]):
            e, n, energy, hits = self.layer_step(torch.tensor(i), e, n, energy, hits, shower, for_layers)
        state, about = self.middle(conditions, e, n, energy, hits, shower)
        state = self.rings(state, about, for_rings)
        state = self.early(state, about, for_cells)
        state = self.cells(state, about, for_cells)
        showers: Tensor = self.tail(state)
        return showers


class _Idle(nn.Module):
    """Stands for the wave of a stage without splits."""

    def forward(
        self, state: Tensor, about: Tensor, u: Tensor, split: Tensor, of_node: Tensor, halves: Tensor
    ) -> Tensor:
        return state + 0


class _Energy(nn.Module):
    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, energy: Tensor, noise: Tensor) -> Tensor:
        showers: Tensor = self.graph(energy, noise)
        return showers


class _EnergyAndAngle(nn.Module):
    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, energy: Tensor, angle: Tensor, noise: Tensor) -> Tensor:
        showers: Tensor = self.graph(torch.cat([energy, angle], 1), noise)
        return showers


class _EnergyAndAngles(nn.Module):
    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, energy: Tensor, theta: Tensor, phi: Tensor, noise: Tensor) -> Tensor:
        showers: Tensor = self.graph(torch.cat([energy, theta, phi], 1), noise)
        return showers


# A script's arguments are counted; one of these takes the conditions of a generator.
_ENTRIES = {1: _Energy, 2: _EnergyAndAngle, 3: _EnergyAndAngles}
