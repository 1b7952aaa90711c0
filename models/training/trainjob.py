"""Give a training to Kubeflow Trainer as a TrainJob, follow it, and leave nothing behind."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from typing import Any

from caloforge.cluster import TRAIN_JOB, Cluster, ClusterError, Refused, conditions
from caloforge.errors import InputError
from caloforge.models.training.pod import TrainingPod
from caloforge.models.training.worker import TrainingFailed
from caloforge.models.training.worker_log import WorkerLog
from caloforge.pods import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    cores,
    environment,
    placement,
    pod_metadata,
    resources,
    volumes,
    without_empty,
)

logger = logging.getLogger(__name__)

NODE = "node"
"""What Trainer's runtimes call the job of the training and its container."""

RESERVED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
"""Trainer sets them; its webhook refuses them from others."""

INDEX = "batch.kubernetes.io/job-completion-index"
"""Label with the number of a pod."""

GPU_SHM = "2Gi"
"""NCCL's shared memory: the node's 64 MB are too little for several GPUs."""

MARGIN_SECONDS = 60
"""So much of a log is read twice: clocks differ. Lines are known by their time."""

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")


def build_train_job(
    name: str, command: Sequence[str], *, nodes: int, processes: int, pod: TrainingPod
) -> dict[str, Any]:
    """Return the TrainJob.

    What a pod gets stands there twice: as ``runtimePatches``, which Trainer knows since 2.2, and as
    ``podTemplateOverrides``, as Trainer 2.1 has it. An API server drops what its version does not know.

    Args:
        name: of the TrainJob.
        command: what each pod runs; torchrun finds the other pods in its environment.
        nodes: number of pods.
        processes: processes for each pod.
        pod: what each pod gets.

    Raises:
        InputError: Trainer would refuse it.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"TrainJob {name!r}: not a name for it: 40 lower-case letters, digits and dashes at most")
    if taken := RESERVED & {*pod.env, *pod.secret_env}:
        raise InputError(f"env: {', '.join(sorted(taken))}: Trainer itself sets this")
    if 0 < pod.gpus < processes:
        raise InputError(f"{processes} processes for each node, but only {pod.gpus} GPUs")
    if pod.cpu_limit:  # as many threads as cores in all processes of a pod together
        threads = str(max(1, cores(pod.cpu_limit) // processes))
        pod = pod.model_copy(update={"env": {"OMP_NUM_THREADS": threads, **pod.env}})
    if pod.gpus > 1 and not pod.shm:
        pod = pod.model_copy(update={"shm": GPU_SHM})
    mounted, mounts = volumes(pod)
    container = {"name": NODE, "volumeMounts": mounts, "securityContext": dict(CONTAINER_SECURITY)}
    spec: dict[str, Any] = {
        **placement(pod),
        "serviceAccountName": pod.service_account,
        "securityContext": dict(POD_SECURITY),
        "volumes": mounted,
        "containers": [container],
    }
    template = {"metadata": pod_metadata(pod), "spec": spec}
    patch = {"template": {"spec": {"replicatedJobs": [{"name": NODE, "template": {"spec": {"template": template}}}]}}}
    job = {
        "apiVersion": TRAIN_JOB.api_version,
        "kind": TRAIN_JOB.name,
        "metadata": {"name": name},
        "spec": {
            "runtimeRef": {"name": pod.runtime},
            "trainer": {
                "image": pod.image,
                "command": list(command),
                "numNodes": nodes,
                "numProcPerNode": processes,
                "resourcesPerNode": resources(pod),
                "env": environment(pod),
            },
            "runtimePatches": [{"manager": "caloforge.org/train", "trainingRuntimeSpec": patch}],
            "podTemplateOverrides": [{"targetJobs": [{"name": NODE}], **template}],
        },
    }
    return without_empty(job)


def run_train_job(job: dict[str, Any], cluster: Cluster, *, timeout: float | None = None) -> None:
    """Create the TrainJob, show the log of its first pod until it ends, and delete it, whatever happens.

    A TrainJob of the same name and content that is there already is waited for, so that a step that
    is tried again does not begin anew.

    Args:
        job: the TrainJob.
        cluster: where to.
        timeout: seconds to wait in all; without it as long as it takes.

    Raises:
        InputError: Trainer is not there, too old, or may not be used.
        TrainingFailed: the TrainJob failed or took too long.
        ClusterError: the cluster does not answer any more.
    """
    name: str = job["metadata"]["name"]
    created = cluster.create(TRAIN_JOB, job)
    if "Failed" in _reached(created):
        logger.info("%s: failed in an earlier attempt; beginning anew", name)
        cluster.delete(TRAIN_JOB, name)
        created = cluster.create(TRAIN_JOB, job)
    try:
        if not {"runtimePatches", "podTemplateOverrides"} & created["spec"].keys():
            raise InputError("the cluster's Kubeflow Trainer is too old: it cannot give pods volumes; 2.1 is needed")
        _Watch(name, cluster).wait(timeout)
    finally:
        cluster.delete(TRAIN_JOB, name)


class _Watch:
    """Waiting for one TrainJob: what was shown of it so far."""

    def __init__(self, name: str, cluster: Cluster) -> None:
        self.name, self.cluster = name, cluster
        self.log = WorkerLog()
        self.pod, self.last_line = "", ""
        self.read: float | None = None
        self.state, self.events = "", set[str]()
        self.hopeless = ""

    def wait(self, timeout: float | None) -> None:
        try:
            for job in self.cluster.watch(TRAIN_JOB, self.name, timeout=timeout):
                self._look_at_pods()
                self._show_state(job)
                reached = _reached(job)
                if "Complete" in reached:
                    return
                if "Failed" in reached:
                    failure = reached["Failed"]
                    what = f"TrainJob {self.name} failed: {failure.get('reason')}: {failure.get('message')}"
                    raise TrainingFailed(self._told(what))
                if self.hopeless:
                    raise TrainingFailed(self._told(f"TrainJob {self.name}: {self.hopeless}"))
        except TimeoutError as error:
            raise TrainingFailed(self._told(f"{error} ({self.state})")) from None

    def _told(self, what: str) -> str:
        """Return what happened with all that may explain it."""
        parts = [what, *self.cluster.events(self.name)]
        if self.log.error is not None:
            parts.append(self.log.error)
        elif tail := self.log.tail():
            parts += ["its first pod ended with:", tail]
        return "\n".join(parts)

    def _show_state(self, job: dict[str, Any]) -> None:
        counts = [
            f"{counts[key]} {key}"
            for counts in job.get("status", {}).get("jobsStatus", [])
            for key in ("active", "ready", "succeeded", "failed")
            if counts.get(key)
        ]
        if conditions(job).get("Suspended", {}).get("status") == "True":
            counts.append("suspended")
        state = ", ".join(counts) or "waiting"
        if state != self.state:
            logger.info("%s: %s", self.name, state)
            self.state = state
        if not self.last_line:  # nothing runs yet: the events say why
            for event in self.cluster.events(self.name):
                if event not in self.events:
                    logger.info("%s", event)
                    self.events.add(event)

    def _look_at_pods(self) -> None:
        """Show what the first pod wrote since the last look; what hinders passes, or shows in the job's state.

        Trainer's runtimes start a container anew whatever it died of, up to seven times, and torchrun its
        processes: what would end each attempt ends the first one here.
        """
        selector = f"jobset.sigs.k8s.io/jobset-name={self.name},jobset.sigs.k8s.io/replicatedjob-name={NODE}"
        try:
            pods = self.cluster.pods(selector)
            for pod in pods:
                if limit := _out_of_memory(pod):
                    self.hopeless = f"pod {pod['metadata']['name']}: OOMKilled: memory is {limit}"
            first = [pod["metadata"] for pod in pods if pod["metadata"]["labels"].get(INDEX) == "0"]
            if not first:
                return
            newest = max(first, key=lambda known: str(known.get("creationTimestamp")))["name"]
            if newest != self.pod:
                self.pod, self.last_line, self.read = newest, "", None
            began = time.monotonic()
            since = {} if self.read is None else {"sinceSeconds": int(began - self.read) + MARGIN_SECONDS}
            text = self.cluster.log(self.pod, NODE, timestamps="true", **since)
            self.read = began
        except (Refused, ClusterError) as error:
            logger.debug("log of %s: %s", self.name, error)
            return
        for line in text.splitlines():
            stamp, _, content = line.partition(" ")
            if _instant(stamp) > self.last_line:
                self.last_line = _instant(stamp)
                self.log.feed(content)
        if self.log.error is not None:
            self.hopeless = self.hopeless or "another attempt would end as this one did"


def _out_of_memory(pod: dict[str, Any]) -> str:
    """Return how much memory a pod's container had if the kernel killed it for want of more, else nothing."""
    for container in pod.get("status", {}).get("containerStatuses", []):
        ends = [container.get(state, {}).get("terminated", {}) for state in ("state", "lastState")]
        if any(end.get("reason") == "OOMKilled" for end in ends):
            (spec,) = (one for one in pod["spec"]["containers"] if one["name"] == container["name"])
            return str(spec.get("resources", {}).get("limits", {}).get("memory", "that of the node"))
    return ""


def _reached(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {kind: entry for kind, entry in conditions(job).items() if entry["status"] == "True"}


def _instant(stamp: str) -> str:
    """Return an RFC 3339 time in a form that sorts: nanoseconds may be written with fewer digits."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<9}"
