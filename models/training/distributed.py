"""Train one family on several processes: torchrun on this machine, a TrainJob on a cluster."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from caloforge.errors import InputError
from caloforge.fetch import is_remote, local_copy
from caloforge.files import atomic_directory, atomic_file, read_json, sha256
from caloforge.models.configuration import TrainingConfig, TrainingRequest
from caloforge.models.presets import resolve
from caloforge.models.training.command import launch_command, train_arguments
from caloforge.models.training.pod import TrainingPod
from caloforge.models.training.record import training_figures
from caloforge.models.training.train import check_minutes, given_energies, train
from caloforge.models.training.worker import TrainingFailed, follow
from caloforge.outputs import check_folder, result_folder
from caloforge.place import TRAIN_BACKENDS, place
from caloforge.pods import in_pod
from caloforge.preprocessing.prepared import load_prepared
from caloforge.result_kinds import BUNDLE
from caloforge.steps import step
from caloforge.temporary import scratch_folder


def train_distributed(
    request: TrainingRequest,
    *,
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
        request: what to train, on what, how, and where to; on a cluster, checkpoints are kept in the pods'
            shared folder. Showers that lie on a claim of the pods stay there; the pods of a TrainJob find anything
            else in their shared folder.
        nodes: number of pods; several need a cluster.
        processes: processes for each node; in pods with GPUs at least one for each.
        backend: ``local``, ``cluster``, or ``auto``: a TrainJob for several nodes, torchrun for one.
        pod: what each node gets on a cluster; within a pod, what it has.
        timeout: seconds to wait for a TrainJob; without it as long as it takes.

    Returns:
        The figures that :func:`caloforge.models.training.train.train` returns.

    Raises:
        InputError: something is wrong with what was given; nothing has started then.
        TrainingFailed: the training failed, or took too long.
        ClusterError: the cluster does not answer any more.
    """
    pod = pod or TrainingPod()
    on_cluster = place(backend, TRAIN_BACKENDS, wanted=nodes > 1) == "cluster"
    if on_cluster or in_pod():
        processes = max(processes, pod.gpus)
    if nodes > 1 and not on_cluster:
        raise InputError(f"{nodes} nodes need a cluster: --backend cluster, or more --processes on this one")
    _check(request, nodes * processes)
    if on_cluster:
        with step(f"train {request.family}"):
            _on_cluster(request, nodes, processes, pod, timeout)
        return training_figures(read_json(request.output / "training.json"))
    with scratch_folder() as scratch:
        data = local_copy(str(request.showers), scratch, checksum=_checksum(request))
        here = request.model_copy(update={"showers": data})
        if processes == 1:
            return train(here)
        _torchrun(train_arguments(here.absolute(), scratch), processes, scratch)
    return training_figures(read_json(request.output / "training.json"))


def _checksum(request: TrainingRequest) -> str:
    """Return the checksum that fetched showers must have: another file is not the one that was prepared."""
    if not is_remote(str(request.showers)):
        return ""  # open_split compares what it can without reading all of it
    return str(load_prepared(request.prepared).record["provenance"]["inputs"]["showers"]["sha256"])


def _check(request: TrainingRequest, processes: int) -> None:
    """Refuse what every process would refuse."""
    config = resolve(request.family, request.preset, request.overrides)
    inputs = [request.prepared, *([request.energies] if request.energies else [])]
    inputs += [] if is_remote(str(request.showers)) else [Path(request.showers)]
    check_folder(request.output, BUNDLE, inputs=inputs, overwrite=request.overwrite)
    check_minutes(request.max_minutes)
    given_energies(request, load_prepared(request.prepared))
    batches = [value.batch_size for _, value in config if isinstance(value, TrainingConfig)]
    if batches and processes > min(batches):
        raise InputError(f"{processes} processes cannot share a batch of {min(batches)} showers")


def _torchrun(arguments: list[str], processes: int, scratch: Path) -> None:
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    _, *command = launch_command("caloforge.models.training.agent", "--standalone", f"--nproc-per-node={processes}")
    follow(
        [sys.executable, *command, *arguments],
        what=f"the training on {processes} processes",
        environment={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads), "TMPDIR": str(scratch)},
    )


def _on_cluster(request: TrainingRequest, nodes: int, processes: int, pod: TrainingPod, timeout: float | None) -> None:
    """Lay everything into the folder that the pods see, run the TrainJob and fetch the bundle."""
    from caloforge.cluster import connect
    from caloforge.models.training.trainjob import build_train_job, run_train_job

    shared = pod.shared_folder()
    checksum = _checksum(request)
    name = job_name(request, checksum or sha256(Path(request.showers)))
    folder = shared / name
    there = request.model_copy(
        update={
            "prepared": folder / "prepared",
            "output": folder / "bundle",
            "energies": None if request.energies is None else folder / "energies",
            "checkpoints": folder / "checkpoints",
            "overwrite": False,
        }
    )
    if not there.output.exists():
        cluster = connect(pod.namespace or None)
        there = there.model_copy(update={"showers": _for_pods(request.showers, folder / "data", pod, checksum)})
        _copy(request.prepared, there.prepared)
        if request.energies is not None and there.energies is not None:
            _copy(request.energies, there.energies)
        command = [*launch_command("torch.distributed.run"), *train_arguments(there, folder)]
        job = build_train_job(name, command, nodes=nodes, processes=processes, pod=pod)
        run_train_job(job, cluster, timeout=timeout)
        if not there.output.exists():
            text = f"TrainJob {name} is complete, but {there.output} is not there; do all its pods see this step's {shared}?"
            raise TrainingFailed(text)
    with result_folder(request.output, BUNDLE, overwrite=request.overwrite) as bundle:
        shutil.copytree(there.output, bundle, dirs_exist_ok=True)
    shutil.rmtree(folder)


def _for_pods(showers: str | Path, folder: Path, pod: TrainingPod, checksum: str) -> Path:
    """Return the showers where the pods see them: as they are on a claim, or once for all in their shared folder."""
    path = local_copy(str(showers), folder, checksum=checksum).absolute()
    if any(path.is_relative_to(claim) for claim in pod.claims.values()):
        return path
    target = folder / path.name
    if not target.exists():
        with atomic_file(target) as temporary:
            shutil.copyfile(path, temporary)
    return target


def job_name(request: TrainingRequest, checksum: str) -> str:
    """Return a name that is the same for the same training, so that a new attempt goes on with the old one."""
    files = [request.prepared / "prepared.json", request.prepared / "transform.safetensors"]
    if request.energies is not None:
        files.append(request.energies / "config.json")
    options = {
        "family": request.family, "preset": request.preset, "overrides": request.overrides or None,
        "seed": request.seed, "max_minutes": request.max_minutes,
    }  # fmt: skip
    content = json.dumps([options, [checksum, *(sha256(file) for file in files)]], sort_keys=True)
    return f"train-{request.family.replace('_', '-')}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def _copy(source: Path, target: Path) -> None:
    with atomic_directory(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
