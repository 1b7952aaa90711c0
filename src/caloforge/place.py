"""Where an operation runs: decided here, for training, tuning and serving alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from caloforge.errors import unknown_name
from caloforge.pods import in_pod

Place = Literal["local", "cluster"]
"""Processes of this machine, or objects of a cluster."""

TrainBackend = Literal["local", "cluster", "auto"]
"""torchrun, or a TrainJob of Kubeflow Trainer; ``auto`` is a TrainJob for several nodes."""

TuneBackend = Literal["local", "katib", "optimizationjob", "auto"]
"""Subprocesses, Jobs that Katib makes, TrainJobs that Trainer makes; ``auto`` is Katib."""

DeployBackend = Literal["local", "kserve", "auto"]
"""A subprocess that is stopped again, or an InferenceService; ``auto`` is one that has a name."""

TRAIN_BACKENDS: tuple[str, ...] = get_args(TrainBackend)
TUNE_BACKENDS: tuple[str, ...] = get_args(TuneBackend)
DEPLOY_BACKENDS: tuple[str, ...] = get_args(DeployBackend)


def place(backend: str, known: Sequence[str], *, wanted: bool = True, inside: bool | None = None) -> Place:
    """Return where an operation runs.

    Args:
        backend: name of what does it; ``auto`` is the cluster from within a pod, if it is wanted, and this machine
            elsewhere. Every other name but ``local`` is something of a cluster.
        known: names that the operation has.
        wanted: whether ``auto`` may take the cluster.
        inside: whether it is started within a pod; without it, whether this process is.

    Raises:
        InputError: there is no such name.
    """
    if backend not in known:
        raise unknown_name("backend", backend, known)
    if backend == "auto":
        return "cluster" if wanted and (in_pod() if inside is None else inside) else "local"
    return "local" if backend == "local" else "cluster"
