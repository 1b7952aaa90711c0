"""The figures that a training is summed up by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def training_figures(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a training from its record, as in a bundle's ``training.json``."""
    voxels, energies = record["stages"]["voxels"], record["stages"]["layer energies"]
    return {
        "seconds": voxels["seconds"] + energies["seconds"],
        "steps": float(voxels["steps"]),
        "parameters": float(record["parameters"]),
        **{f"{part}_loss": values[-1][1] for part, values in voxels["losses"].items()},
        "layer_energy_loss": energies["losses"]["model"][-1][1],
    }
