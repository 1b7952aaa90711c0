"""The figures that a training is summed up by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def training_figures(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a training from its record, as in a bundle's ``training.json``.

    The losses of the last stage are named after its parts (``model_loss``, ``critic_loss``), those of the
    stages before it after the stage (``layer_energies_loss``).
    """
    *earlier, (_, last) = record["stages"].items()
    figures = {
        "seconds": sum(stage["seconds"] for stage in record["stages"].values()),
        "steps": float(last["steps"]),
        "parameters": float(record["parameters"]),
        **{f"{part}_loss": values[-1][1] for part, values in last["losses"].items()},
    }
    for name, stage in earlier:
        for part, values in stage["losses"].items():
            figures[f"{name.replace(' ', '_')}{'' if part == 'model' else f'_{part}'}_loss"] = values[-1][1]
    return figures
