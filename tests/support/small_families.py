"""Which families draw voxels in network space, and settings with which any family is trained for a moment."""

from __future__ import annotations

from typing import Any

from caloforge.models.registries import FAMILIES
from caloforge.models.voxel_family import VoxelFamily

VOXEL_FAMILIES = sorted(name for name in FAMILIES if issubclass(FAMILIES.get(name), VoxelFamily))


def quick(name: str, *, steps: int = 4) -> dict[str, Any]:
    """Return overrides that make a family small and its training short."""
    stage = {"steps": steps, "batch_size": 32}
    if name == "tree":
        stages = ("totals", "layers", "rings", "cells", "early")
        width = {"layer_width": 16, "ring_width": 16, "cell_width": 16}
        return {"model": width, **dict.fromkeys(stages, stage)}
    return {"training": stage, "energies": stage, "model": {"network": {"width": 16, "blocks": 1}}}
