"""Train as a process of its own, so that a step can say what ended a training, and go on without it."""

from __future__ import annotations

import sys

from caloforge.files import read_json, write_json
from caloforge.models.configuration import TrainingRequest
from caloforge.models.training.command import train_arguments
from caloforge.models.training.pod import TrainingPod
from caloforge.models.training.record import training_figures
from caloforge.models.training.worker import follow
from caloforge.temporary import scratch_folder


def train_apart(
    request: TrainingRequest,
    *,
    nodes: int = 1,
    processes: int = 1,
    backend: str = "auto",
    pod: TrainingPod | None = None,
    seconds: float | None = None,
) -> dict[str, float]:
    """Run ``caloforge train`` and return its figures.

    Args:
        request: what to train, on what, how, and where to.
        nodes: number of pods.
        processes: processes for each node.
        backend: see :func:`caloforge.models.training.distributed.train_distributed`.
        pod: what each node gets on a cluster.
        seconds: the process may take, however it spends them; None for no bound.

    Raises:
        InputError: something is wrong with what was given.
        TrainingFailed: it diverged, ran out of memory or time, or died.
        SystemExit: it was told to end, and has saved its state.
    """
    with scratch_folder() as scratch:
        arguments = train_arguments(request.absolute(), scratch)
        arguments += [f"--nodes={nodes}", f"--processes={processes}", f"--backend={backend}"]
        if pod is not None:
            write_json(scratch / "pod.yaml", pod.model_dump(mode="json", exclude_defaults=True))  # JSON is YAML
            arguments.append(f"--pod={scratch}/pod.yaml")
        command = [sys.executable, "-P", "-m", "caloforge", "train", *arguments]
        follow(command, what="the training", seconds=seconds)
    return training_figures(read_json(request.output / "training.json"))
