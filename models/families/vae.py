"""Conditional variational autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from caloforge.models.configuration import by_default
from caloforge.models.family import needs_gpu
from caloforge.models.networks.autoencoder import Autoencoder, AutoencoderConfig
from caloforge.models.objectives.objective import ObjectiveChoice
from caloforge.models.samplers.sampler import SamplerChoice
from caloforge.models.voxel_family import VoxelFamily, VoxelFamilyConfig


class VAEConfig(VoxelFamilyConfig):
    """Defaults of the VAE; see the base."""

    model: AutoencoderConfig = AutoencoderConfig()
    objective: ObjectiveChoice = by_default(name="elbo")
    sampler: SamplerChoice = by_default(name="one_pass")


class VAE(VoxelFamily):
    """Latent numbers and a decoder; see :mod:`caloforge.models.objectives.elbo`."""

    Config = VAEConfig
    architecture = Autoencoder
    note = needs_gpu(1, "CaloVAE+INN, AUC 0.907 on dataset 2 (arXiv:2410.21611)")
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "training.learning_rate": {"type": "double", "min": 0.0005, "max": 0.01, "log": True},
        "training.batch_size": {"type": "categorical", "values": [32, 64, 128]},
        "model.latent": {"type": "int", "min": 8, "max": 96, "log": True},
        "objective.beta": {"type": "double", "min": 0.2, "max": 4.0, "log": True},
        "model.network.width": {"type": "int", "min": 48, "max": 288, "step": 48},
    }
