"""Flow matching, sampled with Heun's method."""

from __future__ import annotations

from caloforge.models.configuration import by_default
from caloforge.models.family import needs_gpu
from caloforge.models.field_family import FieldFamily, FieldFamilyConfig
from caloforge.models.objectives.objective import ObjectiveChoice
from caloforge.models.samplers.sampler import SamplerChoice


class FlowMatchingConfig(FieldFamilyConfig):
    """Defaults of flow matching; see the base."""

    objective: ObjectiveChoice = by_default(name="flow_matching")
    sampler: SamplerChoice = by_default(name="heun", steps=4)


class FlowMatching(FieldFamily):
    """A velocity field from noise to showers; see :mod:`caloforge.models.objectives.flow_matching`."""

    Config = FlowMatchingConfig
    note = needs_gpu(3, "CaloDREAM, AUC 0.531 on dataset 2 (arXiv:2410.21611)")
