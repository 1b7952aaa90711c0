"""Train as a process of its own, so that a step can say what ended a training, and go on without it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caloforge.files import read_json, write_json
from caloforge.models.training.command import train_arguments
from caloforge.models.training.pod import TrainingPod
from caloforge.models.training.record import training_figures
from caloforge.models.training.worker import follow


def train_apart(
    showers: Path,
    prepared: Path,
    output: Path,
    *,
    family: str,
    preset: str = "demo",
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoints: Path | None = None,
    nodes: int = 1,
    processes: int = 1,
    backend: str = "auto",
    pod: TrainingPod | None = None,
    seconds: float | None = None,
) -> dict[str, float]:
    """Run ``caloforge train`` and return its figures.

    Args:
        showers: the shower file that was prepared.
        prepared: folder of the prepared data.
        output: bundle folder to write.
        family: name of the family.
        preset: name of the preset.
        overrides: changes to the preset.
        seed: of the first weights and all that follows.
        max_minutes: limit on the training, see :func:`caloforge.models.train.train`.
        checkpoints: folder from which a stopped training goes on.
        nodes: number of pods.
        processes: processes for each node.
        backend: see :func:`caloforge.models.distributed.train_distributed`.
        pod: what each node gets on a cluster.
        seconds: the process may take, however it spends them; None for no bound.

    Raises:
        InputError: something is wrong with what was given.
        TrainingFailed: it diverged, ran out of memory or time, or died.
        SystemExit: it was told to end, and has saved its state.
    """
    options = {
        "family": family, "preset": preset, "overrides": overrides, "seed": seed, "max_minutes": max_minutes,
    }  # fmt: skip
    places = {"data": showers, "prepared": prepared, "output": output}
    if checkpoints is not None:
        places["checkpoints"] = checkpoints
    with tempfile.TemporaryDirectory() as scratch:
        arguments = train_arguments(options, Path(scratch), **{name: path.absolute() for name, path in places.items()})
        arguments += [f"--nodes={nodes}", f"--processes={processes}", f"--backend={backend}"]
        if pod is not None:
            write_json(Path(scratch) / "pod.yaml", pod.model_dump(mode="json", exclude_defaults=True))  # JSON is YAML
            arguments.append(f"--pod={scratch}/pod.yaml")
        command = [sys.executable, "-P", "-m", "caloforge", "train", *arguments]
        follow(command, what="the training", seconds=seconds)
    return training_figures(read_json(output / "training.json"))
