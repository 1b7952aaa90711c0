"""Families whose network is a field over network space and time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from caloforge.models.networks.vector_field import VectorField, VectorFieldConfig
from caloforge.models.voxel_family import VoxelFamily, VoxelFamilyConfig


class FieldFamilyConfig(VoxelFamilyConfig):
    """Defaults of such a family; see the base."""

    model: VectorFieldConfig = VectorFieldConfig()


class FieldFamily(VoxelFamily):
    """What flow matching and diffusion have in common: the network, and what is tuned."""

    architecture = VectorField
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "training.learning_rate": {"type": "double", "min": 0.0005, "max": 0.01, "log": True},
        "training.batch_size": {"type": "categorical", "values": [32, 64, 128]},
        "model.network.width": {"type": "int", "min": 48, "max": 480, "step": 48},
        "model.network.blocks": {"type": "int", "min": 2, "max": 6},
    }
