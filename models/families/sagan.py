"""Self-attention GAN with spectral normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from caloforge.models.configuration import by_default
from caloforge.models.family import needs_gpu
from caloforge.models.networks.adversaries import Adversaries, AdversariesConfig
from caloforge.models.networks.layers import LayersConfig
from caloforge.models.objectives.objective import ObjectiveChoice
from caloforge.models.samplers.sampler import SamplerChoice
from caloforge.models.voxel_family import VoxelFamily, VoxelFamilyConfig


class SAGANConfig(VoxelFamilyConfig):
    """Defaults of the SAGAN: attention between layers, both players with spectral norms; see the base."""

    model: AdversariesConfig = AdversariesConfig(network=LayersConfig(width=96, blocks=2), spectral_norm=True)
    objective: ObjectiveChoice = by_default(name="hinge")
    sampler: SamplerChoice = by_default(name="one_pass")


class SAGAN(VoxelFamily):
    """Players that see all layers at once; see :mod:`caloforge.models.objectives.hinge`."""

    Config = SAGANConfig
    architecture = Adversaries
    note = needs_gpu(1, "no figures of this kind on CaloChallenge's showers")
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "training.learning_rate": {"type": "double", "min": 0.0001, "max": 0.005, "log": True},
        "training.batch_size": {"type": "categorical", "values": [64, 128, 256]},
        "model.latent": {"type": "int", "min": 8, "max": 128, "log": True},
        "model.network.width": {"type": "int", "min": 48, "max": 288, "step": 48},
    }
