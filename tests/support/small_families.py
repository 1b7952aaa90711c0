"""Which families draw voxels in network space, and settings with which any family is trained for a moment."""

from __future__ import annotations

from typing import Any

from caloforge.models.configuration import TrainingConfig
from caloforge.models.registries import FAMILIES, NETWORKS
from caloforge.models.voxel_family import VoxelFamily

VOXEL_FAMILIES = sorted(name for name in FAMILIES if issubclass(FAMILIES.get(name), VoxelFamily))


def quick(name: str, *, steps: int = 4) -> dict[str, Any]:
    """Return overrides that make a family small, its training short, and its sampler of as few steps as show anything."""
    stage = {"steps": steps, "batch_size": 32}
    fields = FAMILIES.get(name).Config.model_fields
    stages = {key: stage for key, field in fields.items() if isinstance(field.default, TrainingConfig)}
    if name == "tree":
        return {"model": {"layer_width": 16, "ring_width": 16, "cell_width": 16}, **stages}
    sampler = {"sampler": {"steps": 3}} if name in ("diffusion", "flow_matching") else {}
    return {"model": {"network": {"width": 16, "blocks": 1}}, **stages, **sampler}


def small_network(name: str, width: int) -> dict[str, Any]:
    """Return a family's ``model`` with one plain block: an MLP, or what takes its place where that does not fit."""
    needs = FAMILIES.get(name).architecture.needs
    backbone = next(plain for plain in ("mlp", "masked_mlp") if needs in NETWORKS.get(plain).kinds)
    return {"network": {"backbone": backbone, "width": width, "blocks": 1}}
