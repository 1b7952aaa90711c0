"""The tree as an ONNX graph: each step is recorded once, and ``Scan`` runs it over tables of layers and of waves.

Unrolled, the waves of a shower would be tens of thousands of operations; so there are about a thousand,
whatever the mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from caloforge.models.tree.boxes import BoxSplits, Wave
from caloforge.models.tree.onnx_steps import OnnxSteps
from caloforge.models.tree.rows import SplitNetworks
from caloforge.models.tree.state import ENERGY, HITS, PLANES

if TYPE_CHECKING:
    from caloforge.models.families.tree import Tree


def write_onnx(tree: Tree, path: Path, conditions: Tensor, noise: Tensor, *, opset: int) -> None:
    """Write the graph; see :meth:`caloforge.models.family.Family.write_onnx`."""
    with torch.no_grad():
        _steps(tree, conditions, noise, opset).write(path, "showers")


def _steps(tree: Tree, conditions: Tensor, noise: Tensor, opset: int) -> OnnxSteps:
    columns: dict[str, Tensor] = dict(zip(tree.data.conditions, torch.split(conditions, 1, 1), strict=True))
    steps = OnnxSteps({**columns, "noise": noise}, opset=opset)
    inputs = dict.fromkeys((*columns, "noise"), 0)
    drawn = ["energy", "hits", "shower", "u_layers", "u_rings", "u_cells", "no_e", "no_n"]
    steps.add("head", _Head(tree), inputs, drawn)
    layers = ["no_e", "no_n", "energy", "hits"]
    if len(tree.layers):
        after = ["e", "n", "last_energy", "last_hits"]
        steps.scan(
            "layers", _LayerStep(tree), carried=dict.fromkeys(layers, 0),
            tables={"i": torch.arange(len(tree.layers))}, known={"shower": 0, "u_layers": 0}, outputs=after,
        )  # fmt: skip
        layers = after
    inputs = dict.fromkeys((*columns, *layers, "shower"), 0)
    steps.add("middle", _Middle(tree), inputs, ["layers_filled", "about", "of_layers"])
    made, halves, state = {"of_layers": 1}, [tree.state.layer], "layers_filled"
    stages: list[tuple[str, BoxSplits, SplitNetworks, int]] = [
        ("rings", tree.ring_splits, tree.rings, 0),
        ("early", tree.cell_splits, tree.early, 1),
        ("cells", tree.cell_splits, tree.cells, 0),
    ]
    for name, splits, networks, which in stages:
        if waves := [(a, b) for a, b, network in splits.waves if network == which]:
            table, nodes = wave_tables(splits, waves, tree)
            filled, energies = f"{name}_filled", f"of_{name}"
            steps.scan(
                name, _WaveStep(tree, splits, networks), carried={state: 2},
                tables={field.name: getattr(table, field.name) for field in fields(table)},
                known={"about": 1, "u_rings" if name == "rings" else "u_cells": 1}, outputs=[filled, energies],
            )  # fmt: skip
            state = filled
            made[energies] = 2
            halves.append(nodes)
    steps.add("tail", _Tail(tree, torch.cat(halves)), made, ["showers"])
    return steps


def wave_tables(splits: BoxSplits, waves: Sequence[tuple[int, int]], tree: Tree) -> tuple[Wave, Tensor]:
    """Return waves of the same length, and the nodes that they make.

    Short waves are filled up with splits of the slot "nothing", which has no hits.

    Args:
        splits: their kind.
        waves: first split and one past the last.
        tree: its slots.

    Returns:
        Tables with a first dimension for the waves; the halves (waves * 2 W,) as nodes.
    """
    n, width = len(waves), max(b - a for a, b in waves)
    nothing = tree.slots.nothing
    split = torch.zeros(n, width, dtype=torch.long)
    of_node = (PLANES * nothing + torch.tensor([ENERGY, HITS])).repeat(n, width, 1)
    halves, nodes = (torch.full((n, 2, width), m) for m in (nothing, tree.state.layout.nothing))
    under = torch.full((n, 2, width, *splits.slot_under.shape[1:]), PLANES * nothing)
    share = torch.zeros(under.shape)
    for row, (a, b) in enumerate(waves):
        m, pieces = b - a, slice(2 * a, 2 * b)
        split[row, :m], of_node[row, :m] = torch.arange(a, b), splits.slot_of_node[a:b]
        halves[row, :, :m], nodes[row, :, :m] = splits.slot_halves[pieces].view(2, m), splits.halves[pieces].view(2, m)
        under[row, :, :m], share[row, :, :m] = (
            t[pieces].reshape(2, m, *t.shape[1:]) for t in (splits.slot_under, splits.share)
        )
    return Wave(split, of_node, *(t.flatten(1, 2) for t in (halves, under, share))), nodes.flatten()


class _Head(nn.Module):
    """Conditions and noise to totals, features of the shower, and the uniform numbers of the other stages."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.tree = tree

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        *conditions, noise = given
        for_totals, *others = self.tree.uniform(noise)
        energy, hits, shower, nothing = self.tree.begin_showers(torch.cat(conditions, 1), for_totals)
        return (energy, hits, shower, *others, nothing, nothing + 0)


class _LayerStep(nn.Module):
    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.layers = tree.layers

    def forward(
        self, e: Tensor, n: Tensor, energy: Tensor, hits: Tensor, i: Tensor, shower: Tensor, u: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.layers.step(i, e, n, energy, hits, shower, u)


class _Middle(nn.Module):
    """Layers to the state in which boxes are split, what their networks are told, and the layers' energies."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.tree = tree

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        *columns, e, n, energy, hits, shower = given
        conditions = torch.cat(columns, 1)
        e, n = self.tree.layers.with_last(e, n, energy, hits)
        return (*self.tree.begin_boxes(conditions, e, n, shower), e.T)


class _WaveStep(nn.Module):
    def __init__(self, tree: Tree, splits: BoxSplits, networks: SplitNetworks) -> None:
        super().__init__()
        self.splits, self.networks = splits, networks
        self.drawing = splits.drawing(networks, tree.axis.directed)

    def forward(self, state: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        *table, about, u = given
        return self.splits.wave(state, about, u, Wave(*table), self.drawing)


class _Tail(nn.Module):
    """Energies of the layers (L, B) and of the halves (waves, 2 W, B) of each stage to showers."""

    def __init__(self, tree: Tree, made: Tensor) -> None:
        super().__init__()
        self.tree = tree
        at = torch.zeros(tree.state.layout.nothing + 1, dtype=torch.long)
        at[made] = torch.arange(len(made))
        self.at = at[tree.state.cell]

    def forward(self, *made: Tensor) -> Tensor:
        energies = torch.cat([energy.reshape(-1, energy.shape[-1]) for energy in made])
        return self.tree.cells_of(energies.index_select(0, self.at))
