"""Between a shower in MeV and the numbers that networks of voxels work on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.models.conditions import ConditionEncoder
from caloforge.models.family import DataSpec
from caloforge.models.layer_energies import energy_features, hit_features
from caloforge.preprocessing.layer_transforms import LayerEnergyTransform, LayerHitTransform
from caloforge.preprocessing.transforms import VoxelTransform, restore_layers
from caloforge.preprocessing.voxel_steps import LayerSums


class VoxelSpace(nn.Module):
    """What models of voxels given their layers have in common; the attributes are those of whoever inherits it.

    Attributes:
        data: what the model is for.
        sums: sums over layers.
        layer_transform: coding of layer energies.
        hit_transform: coding of the hits of layers.
        voxel_transform: coding of voxels.
        encoder: coding of conditions.
    """

    data: DataSpec
    sums: LayerSums
    layer_transform: LayerEnergyTransform
    hit_transform: LayerHitTransform
    voxel_transform: VoxelTransform
    encoder: ConditionEncoder

    def voxel_condition(self, conditions: Tensor, layer_energy: Tensor, layer_hits: Tensor) -> Tensor:
        """Return the (B, C) condition of voxels: encoded conditions, energies and hits of layers (B, L)."""
        energies = energy_features(layer_energy, self.data.threshold)
        hits = hit_features(layer_hits, self.hit_transform.capacity)
        return torch.cat([self.encoder(conditions), energies, hits], 1)

    def to_mev(self, x: Tensor, layer_energy: Tensor, layer_hits: Tensor) -> Tensor:
        """Return (B, V) MeV of network-space voxels (B, V).

        Layers have the energies ``layer_energy`` (B, L) in MeV and the hits ``layer_hits`` (B, L).
        """
        threshold = self.data.threshold
        voxels = self.voxel_transform.decode(x, self.sums.context(layer_energy, layer_hits, threshold))
        # A floor far below the threshold keeps the network's own ranking of voxels that it would leave empty.
        floor = 1e-6 * threshold * torch.sigmoid(x.clamp(-20, 20))
        return restore_layers(voxels + floor, layer_energy, layer_hits, self.sums, threshold)
