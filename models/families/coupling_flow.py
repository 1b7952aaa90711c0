"""Normalizing flow of rational-quadratic coupling layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from caloforge.models.configuration import by_default
from caloforge.models.family import needs_gpu
from caloforge.models.networks.couplings import Couplings, CouplingsConfig
from caloforge.models.objectives.objective import ObjectiveChoice
from caloforge.models.samplers.sampler import SamplerChoice
from caloforge.models.voxel_family import VoxelFamily, VoxelFamilyConfig


class CouplingFlowConfig(VoxelFamilyConfig):
    """Defaults of the coupling flow; see the base."""

    model: CouplingsConfig = CouplingsConfig()
    objective: ObjectiveChoice = by_default(name="likelihood")
    sampler: SamplerChoice = by_default(name="one_pass")


class CouplingFlow(VoxelFamily):
    """Exact likelihood, one pass to sample; see :mod:`caloforge.models.objectives.likelihood`."""

    Config = CouplingFlowConfig
    architecture = Couplings
    note = needs_gpu(1, "CaloINN, AUC 0.743 on dataset 2 (arXiv:2410.21611)")
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "training.learning_rate": {"type": "double", "min": 0.0005, "max": 0.01, "log": True},
        "training.batch_size": {"type": "categorical", "values": [32, 64, 128]},
        "model.couplings": {"type": "int", "min": 4, "max": 12, "step": 2},
        "model.bins": {"type": "int", "min": 4, "max": 12},
        "model.network.width": {"type": "int", "min": 96, "max": 384, "step": 96},
    }
