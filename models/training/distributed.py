"""Train one family on several processes: torchrun on this machine, a TrainJob on a cluster."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caloforge.errors import InputError, unknown_name
from caloforge.files import atomic_directory, atomic_file, read_json, sha256
from caloforge.models.presets import resolve
from caloforge.models.training.command import launch_command, train_arguments
from caloforge.models.training.pod import TrainingPod
from caloforge.models.training.record import training_figures
from caloforge.models.training.train import train
from caloforge.models.training.worker import TrainingFailed, follow
from caloforge.pods import in_pod
from caloforge.preprocessing.prepared import load_prepared
from caloforge.steps import step

BACKENDS = ("local", "cluster", "auto")


def train_distributed(
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
    timeout: float | None = None,
) -> dict[str, float]:
    """Train a generator on several processes; the result is that of one but for rounding.

    A single process trains here and now. More are started by torchrun on this machine, or by a
    TrainJob of Kubeflow Trainer, which is deleted at the end. A training that was stopped goes on
    when this is called again.

    Args:
        showers: the shower file that was prepared.
        prepared: folder of the prepared data.
        output: bundle folder to write.
        family: name of the family.
        preset: name of the preset.
        overrides: changes to the preset.
        seed: of the first weights and all that follows.
        max_minutes: limit on the training, see :func:`caloforge.models.train.train`.
        checkpoints: folder for checkpoints; on a cluster they are kept in the pods' shared folder.
        nodes: number of pods; several need a cluster.
        processes: processes for each node; in pods with GPUs at least one for each.
        backend: ``local``, ``cluster``, or ``auto``: a TrainJob for several nodes, torchrun for one.
        pod: what each node gets on a cluster; within a pod, what it has.
        timeout: seconds to wait for a TrainJob; without it as long as it takes.

    Returns:
        The figures that :func:`caloforge.models.train.train` returns.

    Raises:
        InputError: something is wrong with what was given; nothing has started then.
        TrainingFailed: the training failed, or took too long.
        ClusterError: the cluster does not answer any more.
    """
    if backend not in BACKENDS:
        raise unknown_name("backend", backend, BACKENDS)
    pod = pod or TrainingPod()
    on_cluster = backend == "cluster" or (backend == "auto" and nodes > 1 and in_pod())
    if on_cluster or in_pod():
        processes = max(processes, pod.gpus)
    if nodes > 1 and not on_cluster:
        raise InputError(f"{nodes} nodes need a cluster: --backend cluster, or more --processes on this one")
    _check(prepared, family, preset, overrides, nodes * processes)
    options: dict[str, Any] = {
        "family": family, "preset": preset, "overrides": overrides, "seed": seed, "max_minutes": max_minutes,
    }  # fmt: skip
    if on_cluster:
        with step(f"train {family}"):
            _on_cluster(showers, prepared, output, options, nodes, processes, pod, timeout)
    elif processes == 1:
        return train(showers, prepared, output, checkpoints=checkpoints, **options)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folders = {"checkpoints": checkpoints.absolute()} if checkpoints else {}
            arguments = train_arguments(
                options, Path(scratch), data=showers.absolute(), prepared=prepared.absolute(),
                output=output.absolute(), **folders,
            )  # fmt: skip
            _torchrun(arguments, processes)
    return training_figures(read_json(output / "training.json"))


def _check(prepared: Path, family: str, preset: str, overrides: Mapping[str, Any] | None, processes: int) -> None:
    """Refuse what every process would refuse."""
    config = resolve(family, preset, overrides)
    load_prepared(prepared)
    batch = min(config.training.batch_size, config.energies.batch_size)
    if processes > batch:
        raise InputError(f"{processes} processes cannot share a batch of {batch} showers")


def _torchrun(arguments: list[str], processes: int) -> None:
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    _, *command = launch_command("caloforge.models.training.agent", "--standalone", f"--nproc-per-node={processes}")
    follow(
        [sys.executable, *command, *arguments],
        what=f"the training on {processes} processes",
        environment={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)},
    )


def _on_cluster(
    showers: Path,
    prepared: Path,
    output: Path,
    options: Mapping[str, Any],
    nodes: int,
    processes: int,
    pod: TrainingPod,
    timeout: float | None,
) -> None:
    """Lay everything into the folder that the pods see, run the TrainJob and fetch the bundle."""
    from caloforge.cluster import connect
    from caloforge.models.training.trainjob import build_train_job, run_train_job

    shared = pod.shared_folder()
    name = job_name(options, [showers, prepared / "prepared.json", prepared / "transform.safetensors"])
    folder = shared / name
    bundle = folder / "bundle"
    if not bundle.exists():
        cluster = connect(pod.namespace or None)
        places = {"data": folder / "data" / showers.name, "prepared": folder / "prepared"}
        if not places["data"].exists():
            with atomic_file(places["data"]) as temporary:
                shutil.copyfile(showers, temporary)
        _copy(prepared, places["prepared"])
        arguments = train_arguments(options, folder, **places, output=bundle, checkpoints=folder / "checkpoints")
        job = build_train_job(
            name, [*launch_command("torch.distributed.run"), *arguments], nodes=nodes, processes=processes, pod=pod
        )
        run_train_job(job, cluster, timeout=timeout)
        if not bundle.exists():
            text = f"TrainJob {name} is complete, but {bundle} is not there; do all its pods see this step's {shared}?"
            raise TrainingFailed(text)
    _copy(bundle, output)
    shutil.rmtree(folder)


def job_name(options: Mapping[str, Any], files: list[Path]) -> str:
    """Return a name that is the same for the same training, so that a new attempt goes on with the old one."""
    content = json.dumps([options, [sha256(file) for file in files]], sort_keys=True)
    return f"train-{options['family'].replace('_', '-')}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def _copy(source: Path, target: Path) -> None:
    with atomic_directory(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
