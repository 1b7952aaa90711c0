"""The doors of this floor, one line for each name. Nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from caloforge.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from caloforge.models.batch import Batch, Decoded
    from caloforge.models.engines.variant import OpenEngine
    from caloforge.models.family import Family
    from caloforge.models.few_steps.distillation import Distillation
    from caloforge.models.networks.backbone import Backbone
    from caloforge.models.objectives.objective import Objective
    from caloforge.models.samplers.sampler import Sampler

FAMILIES: Registry[type[Family]] = Registry(
    "family",
    # The longest trainings first, so that two that run side by side end together.
    {
        "tree": "caloforge.models.families.tree:Tree",
        "autoregressive_flow": "caloforge.models.families.autoregressive_flow:AutoregressiveFlow",
        "coupling_flow": "caloforge.models.families.coupling_flow:CouplingFlow",
        "flow_matching": "caloforge.models.families.flow_matching:FlowMatching",
        "diffusion": "caloforge.models.families.diffusion:Diffusion",
        "bib_ae": "caloforge.models.families.bib_ae:BIBAE",
        "vae_gan": "caloforge.models.families.vae_gan:VAEGAN",
        "sagan": "caloforge.models.families.sagan:SAGAN",
        "wgan": "caloforge.models.families.wgan:WGAN",
        "gan": "caloforge.models.families.gan:GAN",
        "vae": "caloforge.models.families.vae:VAE",
    },
    group="caloforge.families",
)
"""Generators: named combinations of the pieces below, or something of their own."""

NETWORKS: Registry[type[Backbone]] = Registry(
    "backbone",
    {
        "mlp": "caloforge.models.networks.mlp:ResidualMLP",
        "layers": "caloforge.models.networks.layers:LayerTransformer",
        "patches": "caloforge.models.networks.patches:PatchTransformer",
        "unet": "caloforge.models.networks.unet:UNet",
        "masked_mlp": "caloforge.models.networks.masked_mlp:MaskedMLP",
    },
    group="caloforge.networks",
)
"""Backbones: from voxels and a condition to values per voxel."""

OBJECTIVES: Registry[type[Objective]] = Registry(
    "objective",
    {
        "likelihood": "caloforge.models.objectives.likelihood:Likelihood",
        "flow_matching": "caloforge.models.objectives.flow_matching:FlowMatching",
        "denoising": "caloforge.models.objectives.denoising:Denoising",
        "non_saturating": "caloforge.models.objectives.non_saturating:NonSaturating",
        "hinge": "caloforge.models.objectives.hinge:Hinge",
        "edm": "caloforge.models.objectives.edm:EDM",
        "wgan_gp": "caloforge.models.objectives.wgan_gp:WGANGP",
        "elbo": "caloforge.models.objectives.elbo:ELBO",
        "vae_gan": "caloforge.models.objectives.vae_gan:VAEGAN",
        "bib_ae": "caloforge.models.objectives.bib_ae:BIBAE",
    },
    group="caloforge.objectives",
)
"""What a network is trained for."""

SAMPLERS: Registry[type[Sampler]] = Registry(
    "sampler",
    {
        "one_pass": "caloforge.models.samplers.one_pass:OnePass",
        "euler": "caloforge.models.samplers.ode:Euler",
        "midpoint": "caloforge.models.samplers.ode:Midpoint",
        "heun": "caloforge.models.samplers.ode:Heun",
        "ddim": "caloforge.models.samplers.ddim:DDIM",
        "ddpm": "caloforge.models.samplers.ddpm:DDPM",
        "dpm_solver": "caloforge.models.samplers.dpm_solver:DPMSolver",
        "edm_heun": "caloforge.models.samplers.edm_heun:EDMHeun",
        "restart": "caloforge.models.samplers.restart:Restart",
    },
    group="caloforge.samplers",
)
"""How noise becomes a shower."""

LOSSES: Registry[Callable[[Batch, Decoded], Tensor]] = Registry(
    "loss",
    {
        "shower_centre": "caloforge.models.losses.shower_centre:shower_centre",
        "expected_centre": "caloforge.models.losses.expected_centre:expected_centre",
        "shower_moments": "caloforge.models.losses.shower_moments:shower_moments",
        "sparsity": "caloforge.models.losses.sparsity:sparsity",
        "voxel_spectrum": "caloforge.models.losses.voxel_spectrum:voxel_spectrum",
    },
    group="caloforge.losses",
)
"""Extra terms of a loss, of decoded showers in MeV."""

DISTILLATIONS: Registry[type[Distillation]] = Registry(
    "distillation",
    {
        "progressive": "caloforge.models.few_steps.progressive:Progressive",
        "progressive_flow": "caloforge.models.few_steps.progressive_flow:ProgressiveFlow",
        "reflow": "caloforge.models.few_steps.reflow:Reflow",
    },
    group="caloforge.distillations",
)
"""How a student with few steps learns from its teacher."""

ENGINES: Registry[OpenEngine] = Registry(
    "engine",
    {
        "pytorch": "caloforge.models.engines.pytorch:open_engine",
        "onnxruntime": "caloforge.models.engines.onnx:open_engine",
        "cpp": "caloforge.models.engines.cpp:open_engine",
    },
    group="caloforge.engines",
)
"""Libraries that run a trained generator."""

PRESETS = ("demo", "full")
"""Presets that come with the package."""
