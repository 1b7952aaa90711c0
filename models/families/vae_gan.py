"""Conditional variational autoencoder with a critic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from caloforge.models.configuration import by_default
from caloforge.models.family import needs_gpu
from caloforge.models.networks.adversarial_autoencoder import AdversarialAutoencoder
from caloforge.models.networks.autoencoder import AutoencoderConfig
from caloforge.models.objectives.objective import ObjectiveChoice
from caloforge.models.samplers.sampler import SamplerChoice
from caloforge.models.voxel_family import VoxelFamily, VoxelFamilyConfig


class VAEGANConfig(VoxelFamilyConfig):
    """Defaults of the VAE-GAN; see the base."""

    model: AutoencoderConfig = AutoencoderConfig()
    objective: ObjectiveChoice = by_default(name="vae_gan")
    sampler: SamplerChoice = by_default(name="one_pass")


class VAEGAN(VoxelFamily):
    """A VAE whose showers a critic sees; see :mod:`caloforge.models.objectives.vae_gan`."""

    Config = VAEGANConfig
    architecture = AdversarialAutoencoder
    note = needs_gpu(2, "no figures of this kind on CaloChallenge's showers")
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "training.learning_rate": {"type": "double", "min": 0.0005, "max": 0.01, "log": True},
        "training.batch_size": {"type": "categorical", "values": [32, 64, 128]},
        "model.latent": {"type": "int", "min": 8, "max": 96, "log": True},
        "objective.beta": {"type": "double", "min": 0.2, "max": 4.0, "log": True},
        "objective.adversarial": {"type": "double", "min": 0.005, "max": 0.5, "log": True},
        "model.network.width": {"type": "int", "min": 48, "max": 288, "step": 48},
    }
