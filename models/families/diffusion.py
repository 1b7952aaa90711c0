"""Conditional denoising diffusion: trained as DDPM, sampled with DDIM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from caloforge.models.configuration import by_default
from caloforge.models.networks.vector_field import VectorField, VectorFieldConfig
from caloforge.models.objectives.objective import ObjectiveChoice
from caloforge.models.samplers.sampler import SamplerChoice
from caloforge.models.voxel_family import VoxelFamily, VoxelFamilyConfig


class DiffusionConfig(VoxelFamilyConfig):
    """Defaults of the diffusion model; see the base."""

    model: VectorFieldConfig = VectorFieldConfig()
    objective: ObjectiveChoice = by_default(name="denoising")
    sampler: SamplerChoice = by_default(name="ddim", steps=25)


class Diffusion(VoxelFamily):
    """A network that takes noise away; see :mod:`caloforge.models.objectives.denoising`."""

    Config = DiffusionConfig
    architecture = VectorField
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "training.learning_rate": {"type": "double", "min": 0.0005, "max": 0.01, "log": True},
        "training.batch_size": {"type": "categorical", "values": [32, 64, 128]},
        "model.network.width": {"type": "int", "min": 48, "max": 480, "step": 48},
        "model.network.blocks": {"type": "int", "min": 2, "max": 6},
    }
