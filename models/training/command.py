"""The command that trains, for processes and pods that are started with it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from caloforge.files import atomic_file
from caloforge.models.configuration import TrainingRequest

RESTARTS = 3
"""So often torchrun starts all processes anew after one was lost; they go on from the last checkpoint."""


def train_arguments(request: TrainingRequest, scratch: Path) -> list[str]:
    """Return the arguments of ``caloforge train``, its overrides in a file of the scratch folder."""
    arguments = [f"--data={request.showers}", f"--prepared={request.prepared}", f"--output={request.output}"]
    arguments += [f"--family={request.family}", f"--preset={request.preset}", f"--seed={request.seed}"]
    if request.max_minutes is not None:
        arguments.append(f"--max-minutes={request.max_minutes:g}")
    arguments += [
        f"--{name}={path}"
        for name, path in (("energies", request.energies), ("checkpoints", request.checkpoints))
        if path is not None
    ]
    if request.overwrite:
        arguments.append("--overwrite")
    if request.overrides:
        file = scratch / "overrides.yaml"
        with atomic_file(file) as temporary:
            temporary.write_text(yaml.safe_dump(json.loads(json.dumps(request.overrides))), encoding="utf-8")
        arguments.append(f"--overrides={file}")
    return arguments


def launch_command(launcher: str, *options: str) -> list[str]:
    """Return the command that starts several processes; the arguments of ``caloforge train`` follow.

    -P: a folder called caloforge in the current directory is not the package.
    """
    return ["python", "-P", "-m", launcher, *options, f"--max-restarts={RESTARTS}", "--module", "caloforge", "train"]
