"""Conditional Wasserstein GAN with gradient penalty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from caloforge.models.configuration import by_default
from caloforge.models.family import needs_gpu
from caloforge.models.networks.adversaries import Adversaries, AdversariesConfig
from caloforge.models.objectives.objective import ObjectiveChoice
from caloforge.models.samplers.sampler import SamplerChoice
from caloforge.models.voxel_family import VoxelFamily, VoxelFamilyConfig


class WGANConfig(VoxelFamilyConfig):
    """Defaults of the WGAN; see the base."""

    model: AdversariesConfig = AdversariesConfig()
    objective: ObjectiveChoice = by_default(name="wgan_gp")
    sampler: SamplerChoice = by_default(name="one_pass")


class WGAN(VoxelFamily):
    """A generator trained against a critic; see :mod:`caloforge.models.objectives.wgan_gp`."""

    Config = WGANConfig
    architecture = Adversaries
    note = needs_gpu(1, "CaloShowerGAN, AUC 0.928 on dataset 1 photons (arXiv:2410.21611)")
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "training.learning_rate": {"type": "double", "min": 5e-05, "max": 0.002, "log": True},
        "training.batch_size": {"type": "categorical", "values": [64, 128, 256]},
        "model.latent": {"type": "int", "min": 8, "max": 128, "log": True},
        "objective.penalty": {"type": "double", "min": 0.05, "max": 10.0, "log": True},
        "model.network.width": {"type": "int", "min": 96, "max": 384, "step": 48},
    }
