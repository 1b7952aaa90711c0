"""The whole generator: four stages, drawn one after another, or the likelihood of showers part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import math
import torch
from torch import Tensor, nn

from caloforge.geometry import Geometry
from caloforge.models.tree.boxes import BoxSplits
from caloforge.models.tree.context import energy_feature, hits_feature
from caloforge.models.tree.layers import LayerSplits
from caloforge.models.tree.layout import Layout
from caloforge.models.tree.spectrum import HitSpectrum
from caloforge.models.tree.state import ENERGY, HITS, TreeState
from caloforge.models.tree.totals import NOISE, Totals

PARTS = ("totals", "layers", "rings", "cells")
"""What the likelihood of a shower is the product of."""


class ConditionFeatures(nn.Module):
    """Bring conditions to numbers of order one."""

    def __init__(self, names: Sequence[str], energy_range: tuple[float, float]) -> None:
        super().__init__()
        self.names = tuple(names)
        low, high = (math.log(e) for e in energy_range)
        self.middle, self.half_width = (low + high) / 2, max((high - low) / 2, 0.1)
        self.n_features = 2 + ("theta" in names) + 2 * ("phi" in names)

    def forward(self, conditions: Tensor) -> Tensor:
        """Map (B, K) raw conditions, energy in MeV first, to (B, n_features)."""
        x = (torch.log(conditions[:, 0]) - self.middle) / self.half_width
        columns = [1.7 * x, x**2]
        for i, name in enumerate(self.names[1:], 1):
            angle = conditions[:, i]
            columns += [2 * torch.cos(angle)] if name == "theta" else [torch.sin(angle), torch.cos(angle)]
        return torch.stack(columns, 1)


class SplittingTree(nn.Module):
    """p(shower | conditions) as a product over the splits of a binary tree.

    Totals, then layers, rings and cells; each factor is a distribution of one number.

    Attributes:
        noise_features: standard normal numbers per shower: 3, and 2 for each split.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        conditions: Sequence[str],
        energy_range: tuple[float, float],
        threshold: float,
        symmetric: bool,
        layer_width: int = 128,
        ring_width: int = 64,
        cell_width: int = 64,
        early_layers: int = 3,
    ) -> None:
        """Build tables and networks.

        Args:
            geometry: the mesh.
            conditions: names of the conditions, the incident energy first.
            energy_range: least and greatest incident energy, MeV.
            threshold: MeV.
            symmetric: whether showers look the same from all sides in alpha.
            layer_width: width of the layers' networks.
            ring_width: of the rings'.
            cell_width: of the cells'.
            early_layers: first layers whose cells have networks of their own.
        """
        super().__init__()
        self.geometry, self.threshold = geometry, threshold
        self.layout = layout = Layout(geometry)
        self.tree = TreeState(layout)
        self.register_buffer("layer_node", torch.as_tensor(layout.layer_node), persistent=False)
        self.encoder = ConditionFeatures(conditions, energy_range)
        self.spectrum = HitSpectrum()
        n = self.encoder.n_features
        capacity = torch.as_tensor(layout.capacity[layout.layer_node])
        self.totals = Totals(geometry.n_voxels, n, threshold=threshold)
        self.layers = LayerSplits(capacity, threshold=threshold, width=layer_width, n_shower=n + 2)
        shared = {"threshold": threshold, "n_shower": n + 6, "symmetric": symmetric}
        self.rings = BoxSplits(layout, layout.rings, self.spectrum, width=ring_width, **shared)
        self.cells = BoxSplits(
            layout, layout.cells, self.spectrum, width=cell_width, early_layers=early_layers, **shared
        )
        self.noise_sizes = (NOISE, *(2 * len(stage) for stage in (self.layers, self.rings, self.cells)))
        self.noise_features = sum(self.noise_sizes)

    def forward(self, conditions: Tensor, noise: Tensor) -> Tensor:
        """Draw showers.

        Args:
            conditions: (B, K) raw conditions, incident energy in MeV first.
            noise: (B, noise_features) standard normal numbers.

        Returns:
            (B, V) MeV; no voxel is between 0 and the threshold.
        """
        incident, encoded = conditions[:, 0], self.encoder(conditions)
        for_totals, for_layers, for_rings, for_cells = noise.split(self.noise_sizes, 1)
        hits, energy = self.totals.draw(incident, encoded, for_totals)
        shower = torch.cat([encoded, self.totals.features(incident, hits, energy)], 1)
        layer_energy, layer_hits = self.layers.draw(energy, hits, shower, for_layers)
        state = self.tree.empty(len(conditions), conditions.device)
        for i in range(self.geometry.n_layers):  # one by one: each has a history of those before
            self.tree.fill(state, self.layer_node[i : i + 1], layer_energy.T[i : i + 1], layer_hits.T[i : i + 1])
        about = self._about(layer_energy, layer_hits, shower)
        self.rings.draw(self.tree, state, about, for_rings)
        self.cells.draw(self.tree, state, about, for_cells)
        return state[ENERGY, self.tree.cell].T

    def log_prob(
        self, conditions: Tensor, voxels: Tensor, *, parts: Sequence[str] = PARTS, density: bool = True, group: int | None = None
    ) -> dict[str, Tensor]:
        """Return the log-likelihood of showers, part by part.

        Args:
            conditions: (B, K) raw.
            voxels: (B, V) MeV, none between 0 and the threshold.
            parts: which of :data:`PARTS`.
            density: per MeV of each hit's energy; without it of the coded shares, which differ by terms
                that depend on the data alone: what training needs.
            group: see :meth:`BoxSplits.log_prob`.

        Returns:
            (B,) per part; their sum is log p(voxels | conditions).
        """
        incident, encoded = conditions[:, 0], self.encoder(conditions)
        state = self.tree.of_showers(voxels)
        energy, hits = (state[plane, self.layer_node].T for plane in (ENERGY, HITS))  # (B, L)
        result = {}
        if "totals" in parts:
            result["totals"] = self.totals.log_prob(incident, encoded, hits.sum(1), energy.sum(1), density=density)
        shower = torch.cat([encoded, self.totals.features(incident, hits.sum(1), energy.sum(1))], 1)
        if "layers" in parts:
            result["layers"] = self.layers.log_prob(energy, hits, shower, density=density)
        about = self._about(energy, hits, shower)
        if "rings" in parts:
            result["rings"] = self.rings.log_prob(state, about, density=density)
        if "cells" in parts:
            result["cells"] = self.cells.log_prob(state, about, group=group, density=density)
        return result

    def _about(self, energy: Tensor, hits: Tensor, shower: Tensor) -> Tensor:
        """Return (L, B, F): features of the shower, of each layer, and of how much energy is before it."""
        before = energy.cumsum(1) - energy
        total = energy.sum(1, keepdim=True).clamp_min(self.threshold)
        previous = torch.nn.functional.pad(energy, (1, 0))[:, :-1]
        own = torch.stack(
            [
                2 * before / total - 1,
                5 * energy / total,
                energy_feature(energy, self.threshold) - energy_feature(previous, self.threshold),
                hits_feature(hits) - 2,
            ],
            2,
        )  # (B, L, 4)
        everywhere = shower[:, None].expand(-1, energy.shape[1], -1)
        return torch.cat([everywhere, own], 2).transpose(0, 1)
