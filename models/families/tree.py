"""The splitting tree as a family: totals, layers, rings and cells, each trained by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from caloforge.config import Config
from caloforge.draws import Draws
from caloforge.models.conditions import ConditionEncoder
from caloforge.models.configuration import FamilyConfig, TrainingConfig
from caloforge.models.family import DataSpec, Family, Stage
from caloforge.models.tree.axis import ExpectedAxis
from caloforge.models.tree.boxes import BoxSplits
from caloforge.models.tree.context import energy_feature, hits_feature
from caloforge.models.tree.layers import LayerSplits
from caloforge.models.tree.layouts import layout_of
from caloforge.models.tree.onnx_graph import write_onnx
from caloforge.models.tree.row_mlp import being_recorded
from caloforge.models.tree.rows import Observed, SplitNetworks
from caloforge.models.tree.slots import find_slots
from caloforge.models.tree.splits import uniform
from caloforge.models.tree.state import ENERGY, HITS, TreeState, of_layers
from caloforge.models.tree.totals import NOISE, Totals

if TYPE_CHECKING:
    from caloforge.models.training.data import TrainingData

PARTS = ("totals", "layers", "rings", "cells")
"""The factors of the likelihood of a shower."""

SPECTRUM_HITS = 1_000_000
"""Hits from which the landmarks of the hit spectrum are found."""


SAMPLED_VOXELS = 3_000_000
"""Voxels that are drawn at once on a CPU: the calls of many small operations are then shared by enough showers."""

UNIFORM_AT_ONCE = 100_000
"""Numbers that stay in a core's cache while they are worked on."""


class TreeModelConfig(Config):
    """Sizes of the networks.

    Attributes:
        layer_width: hidden features of the networks that split the shower into layers.
        ring_width: of those that split layers into rings.
        cell_width: of those that split rings into cells.
        early_layers: first layers whose cells have networks of their own: before the cascade a layer is
            unlike those behind it, and holds too few hits to count in a common training.
    """

    layer_width: int = Field(default=128, gt=0, le=65_536)
    ring_width: int = Field(default=64, gt=0, le=65_536)
    cell_width: int = Field(default=64, gt=0, le=65_536)
    early_layers: int = Field(default=3, ge=0)


def _training(**values: Any) -> TrainingConfig:
    return TrainingConfig(clip=50, weight_decay=0.01, warmup=0.04, **values)


class TreeConfig(FamilyConfig):
    """Configuration of the splitting tree.

    Attributes:
        model: sizes of the networks.
        totals: training of hits and energy of the shower.
        layers: of those of the layers.
        rings: of those of the rings.
        cells: of those of the cells.
        early: of the cells of the first layers, which begin as the others ended.
    """

    model: TreeModelConfig = TreeModelConfig()
    totals: TrainingConfig = _training(steps=600, batch_size=256, learning_rate=5e-3, ema=0.99)
    layers: TrainingConfig = _training(steps=1500, batch_size=64, learning_rate=3e-3, ema=0.995)
    rings: TrainingConfig = _training(steps=2500, batch_size=16, learning_rate=3e-3, ema=0.998)
    cells: TrainingConfig = _training(steps=7000, batch_size=8, learning_rate=3e-3, ema=0.998)
    early: TrainingConfig = _training(steps=300, batch_size=64, learning_rate=2e-3, ema=0.99)


class TreeConditions(ConditionEncoder):
    """Conditions as the tree's networks see them: the energy twice, of the same size as its other features."""

    energy_powers = 2

    def energy_columns(self, x: Tensor) -> list[Tensor]:
        """Return 1.7 x and x^2."""
        return [1.7 * x, x**2]


class Tree(Family):
    """p(shower | conditions) as a product over the splits of a binary tree.

    First the hits and the energy of the shower, then of its layers, of their rings and of their cells; each
    factor is a distribution of one number. Zeros are exact, no cell is between 0 and the threshold, hits
    and energies add up at every node, and the likelihood of a shower is exact.

    Attributes:
        noise_features: 3 standard normal numbers for the totals, and 2 for each split.
    """

    made: Tensor

    Config = TreeConfig
    flipped_share = 0.1
    exact_rows = True
    has_likelihood = True
    space: ClassVar = {
        "rings.learning_rate": {"type": "double", "min": 1.0e-3, "max": 6.0e-3, "log": True},
        "cells.learning_rate": {"type": "double", "min": 1.0e-3, "max": 6.0e-3, "log": True},
        "model.ring_width": {"type": "int", "min": 32, "max": 128, "step": 32},
        "model.cell_width": {"type": "int", "min": 32, "max": 128, "step": 32},
    }

    def __init__(self, config: TreeConfig, data: DataSpec) -> None:
        super().__init__(config, data)
        model, threshold, geometry = config.model, data.threshold, data.geometry
        layout = layout_of(geometry)
        self.state = TreeState(layout)
        self.encoder = TreeConditions(data.domains)
        n = self.encoder.n_features
        self.axis = ExpectedAxis(geometry, n)
        self.totals = Totals(geometry.n_voxels, n, threshold=threshold, n_kinds=self.encoder.n_kinds)
        capacity = torch.as_tensor(layout.capacity[layout.layer_node])
        self.layers = LayerSplits(capacity, threshold=threshold, width=model.layer_width, n_shower=n + 2)
        self.axis_unit = layout.unit
        n_about = n + 2 + 4
        self.ring_splits = BoxSplits(layout, layout.coarse, threshold=threshold, n_about=n_about)
        self.cell_splits = BoxSplits(
            layout,
            layout.fine,
            threshold=threshold,
            n_about=n_about,
            early_layers=0 if layout.turned else model.early_layers,
        )
        kinds = (self.ring_splits, self.cell_splits)
        self.slots = find_slots(layout, [wave for kind in kinds for wave in kind.wave_nodes(self.state)])
        for kind in kinds:
            kind.place(self.state, self.slots)
        made = np.concatenate([layout.layer_node, *(kind.halves.numpy() for kind in kinds)])
        self.register_buffer("made", torch.as_tensor(np.argsort(made)[layout.cell]), persistent=False)
        self.rings = _networks(self.ring_splits, model.ring_width, threshold)
        self.cells, self.early = (_networks(self.cell_splits, model.cell_width, threshold) for _ in range(2))
        self.noise_sizes = [NOISE, *(2 * len(s) for s in (self.layers, self.ring_splits, self.cell_splits))]
        self.noise_features = sum(self.noise_sizes)

    # --- training ---

    def begin(self, data: TrainingData) -> None:
        """Fit trends, landmarks of the hit spectrum and the expected axis."""
        totals: list[Tensor] = []
        kinds: list[Tensor] = []
        hits: list[Tensor] = []
        axis = torch.zeros(())
        for batch in data.chunks():
            incident, encoded = batch.raw_conditions[:, 0], self.encoder(batch.raw_conditions)
            columns = [incident, (batch.voxels > 0).sum(1), batch.voxels.sum(1)]
            totals.append(torch.stack(columns).double())
            if (found := self.encoder.kinds(encoded)) is not None:
                kinds.append(found.double())
            if sum(len(found) for found in hits) < SPECTRUM_HITS:
                hits.append(batch.voxels[batch.voxels > 0])
            if not data.phi_symmetric:
                axis = axis + self.axis.sums(encoded, batch.voxels)
        incident, hit_counts, energies = torch.cat(totals, 1).numpy()
        self.totals.fit(incident, hit_counts, energies, torch.cat(kinds).numpy() if kinds else None)
        for networks in (self.rings, self.cells, self.early):
            networks.spectrum.fit(torch.cat(hits).numpy())
        if not data.phi_symmetric:
            self.axis.solve(axis)

    def stages(self) -> dict[str, Stage]:
        """Return the stages; shares of the time as measured, see ``docs/generators.md``."""
        config: TreeConfig = self.config
        stages = {
            "totals": Stage(config.totals, self._totals_batch, share=0.03),
            "layers": Stage(config.layers, self._layers_batch, share=0.17),
            "rings": Stage(config.rings, self._rings_batch, share=0.22),
            "cells": Stage(config.cells, self._cells_batch, share=0.48),
            "early": Stage(config.early, self._early_batch, share=0.10, title="cells of the first layers"),
        }
        numbers = {"layers": len(self.layers), "rings": len(self.ring_splits), "cells": len(self.cell_splits)}
        skipped = {name for name, number in numbers.items() if number == 0}
        if self.cell_splits.n_early == 0:
            skipped.add("early")
        return {name: stage for name, stage in stages.items() if name not in skipped}

    def _totals_batch(self, data: TrainingData, number: int, size: int, draws: Draws) -> tuple[Tensor, ...]:
        batch = data.batch(number, size, draws)
        energy = batch.layer_energy.sum(1)
        hits = (batch.voxels > 0).sum(1).to(energy.dtype)
        return batch.raw_conditions[:, 0], self.encoder(batch.raw_conditions), hits, energy

    def _layers_batch(self, data: TrainingData, number: int, size: int, draws: Draws) -> tuple[Tensor, ...]:
        batch = data.batch(number, size, draws)
        hit = batch.voxels > 0
        hits = torch.stack([hit[:, place].sum(1) for place in self.data.geometry.layer_slices], 1)
        hits = hits.to(batch.layer_energy.dtype)
        return batch.layer_energy, hits, self._shower(batch.raw_conditions, hits, batch.layer_energy)

    def _rings_batch(self, data: TrainingData, number: int, size: int, draws: Draws) -> Observed:
        batch = data.batch(number, size, draws, turned=self.state.layout.turned)
        state, about, _, _ = self._seen(batch.raw_conditions, batch.voxels)
        return self.ring_splits.observed(state, about, self.axis.directed)

    def _cells_batch(self, data: TrainingData, number: int, size: int, draws: Draws) -> Observed:
        batch = data.batch(number, size, draws, turned=True)
        state, about, _, _ = self._seen(batch.raw_conditions, batch.voxels)
        return self.cell_splits.observed(state, about, self.axis.directed)

    def _early_batch(self, data: TrainingData, number: int, size: int, draws: Draws) -> Observed:
        if number == 0:  # a training that goes on has its own weights already
            self.early.load_state_dict(self.cells.state_dict())
        batch = data.batch(number, size, draws, turned=True)
        state, about, _, _ = self._seen(batch.raw_conditions, batch.voxels)
        return self.cell_splits.observed(state, about, self.axis.directed, early=True)

    # --- likelihood ---

    def log_prob(self, conditions: Tensor, voxels: Tensor) -> dict[str, Tensor]:
        """Return the log-likelihood of showers, part by part.

        It is a density in the energies of the hits (per MeV for each) times the probability of the hits.

        Args:
            conditions: (B, K) raw, incident energy in MeV first.
            voxels: (B, V) MeV, none between 0 and the threshold.

        Returns:
            (B,) for each of :data:`PARTS`; their sum is log p(voxels | conditions).
        """
        state, about, energy, hits = self._seen(conditions, voxels)
        encoded = self.encoder(conditions)
        shower = self._shower(conditions, hits, energy)
        cells = [
            networks.log_prob(self.cell_splits.observed(state, about, self.axis.directed, early=early), density=True)
            for networks, early in ((self.cells, False), (self.early, True))
        ]
        return {
            "totals": self.totals.log_prob(conditions[:, 0], encoded, hits.sum(1), energy.sum(1), density=True),
            "layers": self.layers.log_prob(energy, hits, shower, density=True),
            "rings": self.rings.log_prob(self.ring_splits.observed(state, about, self.axis.directed), density=True),
            "cells": cells[0] + cells[1],
        }

    # --- sampling ---

    def forward(self, conditions: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """Draw showers, (B, V) MeV; see :meth:`caloforge.models.family.Family.forward`."""
        for_totals, for_layers, for_rings, for_cells = self.uniform(noise)
        energy, hits, shower, _ = self.begin_showers(conditions, for_totals)
        energy, hits = self.layers.draw(energy, hits, shower, for_layers)
        state, about = self.begin_boxes(conditions, energy, hits, shower)
        directed = self.axis.directed
        made = self.ring_splits.draw(state, about, for_rings, directed, [self.rings])
        made += self.cell_splits.draw(state, about, for_cells, directed, [self.cells, self.early])
        return self.cells_of(torch.cat([energy.T, *made]).index_select(0, self.made))

    def sampling_batch(self, device: torch.device) -> int:
        """Return how many showers are drawn at once where the caller does not say."""
        if device.type != "cpu":
            return super().sampling_batch(device)
        return max(1, min(1000, SAMPLED_VOXELS // self.data.geometry.n_voxels))

    def uniform(self, noise: Tensor) -> tuple[Tensor, ...]:
        """Return uniform numbers of each stage: (B, n) of totals and layers, (n, B) of rings and cells."""
        rows = max(1, UNIFORM_AT_ONCE // noise.shape[1])
        u = (
            torch.cat([uniform(piece) for piece in torch.split(noise, rows)])
            if not being_recorded()
            else uniform(noise)
        )
        totals, layers, rings, cells = torch.split(u, self.noise_sizes, 1)
        return totals, layers, rings.T.contiguous(), cells.T.contiguous()

    def begin_showers(self, conditions: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return energy (B,) in MeV, hits (B,), features (B, F), and layers without anything (B, L)."""
        encoded = self.encoder(conditions)
        hits, energy = self.totals.draw(conditions[:, 0], encoded, u)
        shower = torch.cat([encoded, self.totals.features(conditions[:, 0], encoded, hits, energy)], 1)
        return energy, hits, shower, energy[:, None].expand(-1, self.data.geometry.n_layers) * 0

    def begin_boxes(self, conditions: Tensor, energy: Tensor, hits: Tensor, shower: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state of showers with these layers (B, L), and what networks are told of them."""
        return of_layers(energy, hits, self.slots.nothing + 1), self._about(
            self.encoder(conditions), energy, hits, shower
        )

    def cells_of(self, cells: Tensor) -> Tensor:
        """Return showers (B, V) of cells (V, B), MeV; rounding may have left a hit just under the threshold."""
        return torch.where(cells > 0, cells.clamp_min(self.data.threshold), cells).T.contiguous()

    def write_onnx(self, path: Path, conditions: Tensor, noise: Tensor, *, steps: int | None, opset: int) -> None:
        """Write the generator as a graph of loops; see :mod:`caloforge.models.tree.onnx_graph`."""
        write_onnx(self, path, conditions, noise, opset=opset)

    # --- what the networks are told ---

    def _seen(self, conditions: Tensor, voxels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return state, features, and layers' energies and hits (B, L) of whole showers."""
        state = self.state.of_showers(voxels)
        energy, hits = (state[self.state.layer, plane].T for plane in (ENERGY, HITS))
        about = self._about(self.encoder(conditions), energy, hits, self._shower(conditions, hits, energy))
        return state, about, energy, hits

    def _shower(self, conditions: Tensor, hits: Tensor, energy: Tensor) -> Tensor:
        """Return (B, F) features of showers with these layers (B, L)."""
        encoded = self.encoder(conditions)
        return torch.cat([encoded, self.totals.features(conditions[:, 0], encoded, hits.sum(1), energy.sum(1))], 1)

    def _about(self, encoded: Tensor, energy: Tensor, hits: Tensor, shower: Tensor) -> Tensor:
        """Return (L, B, F): features of the shower and of each layer, and the way from the expected axis."""
        total = energy.sum(1, keepdim=True).clamp_min(self.data.threshold)
        before = energy.cumsum(1) - energy
        step = energy_feature(energy, self.data.threshold)
        own = torch.stack(
            [2 * before / total - 1, 5 * energy / total, step - F.pad(step, (1, 0))[:, :-1], hits_feature(hits) - 2], 2
        )
        everywhere = shower[:, None].expand(-1, energy.shape[1], -1)
        directed, axis = torch.split(self.axis(encoded), [1, 2], 2)
        return torch.cat([torch.cat([everywhere, own], 2).transpose(0, 1), -directed * axis / self.axis_unit], 2)


def _networks(table: BoxSplits, width: int, threshold: float) -> SplitNetworks:
    return SplitNetworks(table.context.n_features, table.classes, width=width, threshold=threshold)
