"""Conditional denoising diffusion: trained as DDPM, sampled with DPM-Solver++."""

from __future__ import annotations

from caloforge.models.configuration import by_default
from caloforge.models.family import needs_gpu
from caloforge.models.field_family import FieldFamily, FieldFamilyConfig
from caloforge.models.objectives.objective import ObjectiveChoice
from caloforge.models.samplers.sampler import SamplerChoice


class DiffusionConfig(FieldFamilyConfig):
    """Defaults of the diffusion model; see the base."""

    objective: ObjectiveChoice = by_default(name="denoising")
    sampler: SamplerChoice = by_default(name="dpm_solver", steps=10)


class Diffusion(FieldFamily):
    """A network that takes noise away; see :mod:`caloforge.models.objectives.denoising`."""

    Config = DiffusionConfig
    note = needs_gpu(3, "CaloDiffusion, AUC 0.577 on dataset 2 (arXiv:2410.21611)")
