"""A whole generator as one network: conditions and noise in, voxel energies in MeV out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.family import VoxelModel
from caloforge.models.layer_energies import LayerEnergies
from caloforge.preprocessing.transforms import LayerEnergyTransform, LayerSums, VoxelTransform, restore_layers


class ConditionEncoder(nn.Module):
    """Bring conditions to numbers of order one: the log of the energy to [-1, 1], angles to a circle."""

    def __init__(self, names: Sequence[str], energy_range: tuple[float, float]) -> None:
        super().__init__()
        self.names = tuple(names)
        low, high = (math.log(e) for e in energy_range)
        self.middle, self.half_width = (low + high) / 2, max((high - low) / 2, 0.1)
        self.n_features = 1 + ("theta" in names) + 2 * ("phi" in names)

    def forward(self, conditions: Tensor) -> Tensor:
        """Map (B, K) raw conditions in the order of ``names`` to (B, n_features)."""
        columns = [(torch.log(conditions[:, :1]) - self.middle) / self.half_width]
        for i, name in enumerate(self.names[1:], 1):
            angle = conditions[:, i : i + 1]
            columns += [angle - math.pi / 2] if name == "theta" else [torch.sin(angle), torch.cos(angle)]
        return torch.cat(columns, 1)


class TwoStageGenerator(nn.Module):
    """Layer energies given the conditions, then voxels given conditions and layer energies.

    Two stages as in Krause and Shih, CaloFlow, arXiv:2106.05285.
    """

    def __init__(
        self,
        geometry: Geometry,
        family: type[VoxelModel],
        model_config: Config,
        *,
        conditions: Sequence[str],
        energy_range: tuple[float, float],
        threshold: float,
        transforms: tuple[LayerEnergyTransform, VoxelTransform],
    ) -> None:
        """Build the networks; ``model_config`` is of the family's ``Config``."""
        super().__init__()
        self.threshold = threshold
        self.sums = LayerSums(geometry)
        self.layer_transform, self.voxel_transform = transforms
        self.encoder = ConditionEncoder(conditions, energy_range)
        n = self.encoder.n_features
        self.energies = LayerEnergies(geometry.n_layers, n)
        self.voxels = family(geometry, n + 2 * geometry.n_layers, model_config)
        self.noise_features = self.energies.noise_features + self.voxels.noise_features

    def voxel_condition(self, conditions: Tensor, layer_energy: Tensor) -> Tensor:
        """Return the (B, C) condition of the second stage: encoded conditions, log energies, occupancy."""
        active = (layer_energy > 0).to(layer_energy.dtype)
        log_energy = (torch.log(layer_energy.clamp_min(self.threshold) / self.threshold) - 4) / 3
        return torch.cat([self.encoder(conditions), log_energy * active, active], 1)

    def forward(self, conditions: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """Draw showers.

        Args:
            conditions: (B, K) raw conditions, incident energy in MeV first.
            noise: (B, noise_features) standard normal numbers.
            steps: steps of the sampler; None for the family's default.

        Returns:
            (B, V) MeV: layers sum to the layer energies of the first stage, no voxel is between 0
            and the threshold.
        """
        first, second = torch.split(noise, [self.energies.noise_features, self.voxels.noise_features], 1)
        y, active = self.energies.decode(first, self.encoder(conditions))
        layer_energy = self.layer_transform.decode(y, active > 0, conditions[:, :1])
        layer_energy = torch.where(active > 0, layer_energy.clamp_min(self.threshold), torch.zeros_like(layer_energy))
        x = self.voxels.decode(second, self.voxel_condition(conditions, layer_energy), steps)
        voxels = self.voxel_transform.decode(x, self.sums.context(layer_energy, self.threshold))
        # A floor far below the threshold lets an all-zero layer pick its voxel by the network's own ranking.
        floor = 1e-6 * self.threshold * torch.sigmoid(x)
        return restore_layers(voxels + floor, layer_energy, self.sums, self.threshold)
