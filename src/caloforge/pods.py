"""What a pod gets on a cluster: one settings class, and its Kubernetes form for every object that makes pods."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from caloforge import __version__
from caloforge.config import Config

IMAGE = f"ghcr.io/caloforge/python-caloforge:{__version__}"
"""The image of every step, trial and server. Never ``latest``: the tag is part of Kubeflow's cache
key. kfp.local looks for "python" in it."""

Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|[kMGTP]i?)?$")]
"""An amount of cores or bytes, as Kubernetes writes it: 500m, 2, 8G, 16Gi."""

NO_SIDECAR: Mapping[str, str] = {"sidecar.istio.io/inject": "false"}
"""A job with Istio's sidecar never ends. Old versions of Istio read the annotation, new ones the label."""

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Every pod that may talk to its cluster has this folder."""


def in_pod() -> bool:
    """Return whether this runs in a pod: what the backend ``auto`` goes by."""
    return ACCOUNT.exists()


class Toleration(Config):
    """A taint that a pod may ignore, as in Kubernetes.

    Attributes:
        key: of the taint; all taints without it.
        operator: ``Exists``, or ``Equal`` to compare the value too.
        value: of the taint.
        effect: of the taint; all effects without it.
        seconds: how long a ``NoExecute`` taint is borne; for ever without it.
    """

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    seconds: int | None = Field(default=None, ge=0)


class SecretKey(Config):
    """One entry of a Secret.

    Attributes:
        secret: name of the Secret.
        key: name of the entry.
    """

    secret: str
    key: str


class Pod(Config):
    """What a pod asks of the cluster and finds there; a local run takes its environment variables only.

    Attributes:
        cpu: requested cores, as Kubernetes writes them.
        memory: requested and allowed memory, as Kubernetes writes it.
        gpus: number of GPUs.
        gpu_type: Kubernetes' name of the GPU resource.
        node_selector: labels that the node must have.
        tolerations: taints of nodes that are no obstacle.
        env: environment variables; no secrets, they are readable by everyone who sees the object.
        secret_env: environment variables from Secrets, e.g. S3 keys.
        secret_volumes: Secrets to the paths where their entries are found as files, e.g. a Kerberos ticket cache.
        claims: persistent volume claims to the paths where they are found.
        shm: size of ``/dev/shm``, which loaders of data share; empty: the node's 64 MB.
        labels: of the pod, e.g. those by which a site mounts EOS.
        annotations: of the pod.
        image_pull_secrets: Secrets with the registry's password.
    """

    cpu: Quantity = "2"
    memory: Quantity = "8G"
    gpus: int = Field(default=0, ge=0)
    gpu_type: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    secret_env: dict[str, SecretKey] = Field(default_factory=dict)
    secret_volumes: dict[str, str] = Field(default_factory=dict)
    claims: dict[str, str] = Field(default_factory=dict)
    shm: Quantity | Literal[""] = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    image_pull_secrets: tuple[str, ...] = ()


def resources(pod: Pod) -> dict[str, dict[str, str]]:
    """Return the requests and limits of the one container of a pod; cores are not limited."""
    wanted = {"cpu": pod.cpu, "memory": pod.memory}
    bounded = {"memory": pod.memory}
    if pod.gpus:
        wanted[pod.gpu_type] = bounded[pod.gpu_type] = str(pod.gpus)
    return {"requests": wanted, "limits": bounded}


def environment(pod: Pod) -> list[dict[str, Any]]:
    """Return the environment variables of a container, in Kubernetes' form."""
    plain: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in pod.env.items()]
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": source.secret, "key": source.key}}}
        for name, source in pod.secret_env.items()
    ]
    return plain + secret


def volumes(pod: Pod) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the volumes of a pod and their mounts in its container, in Kubernetes' form."""
    sources: dict[str, tuple[str, dict[str, Any]]] = {}
    for number, (claim, path) in enumerate(pod.claims.items()):
        sources[f"claim-{number}"] = path, {"persistentVolumeClaim": {"claimName": claim}}
    for number, (secret, path) in enumerate(pod.secret_volumes.items()):
        sources[f"secret-{number}"] = path, {"secret": {"secretName": secret}}
    if pod.shm:
        sources["shm"] = "/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": pod.shm}}
    return (
        [{"name": name, **source} for name, (_, source) in sources.items()],
        [{"name": name, "mountPath": path} for name, (path, _) in sources.items()],
    )


def pod_template(
    pod: Pod,
    *,
    container: str,
    image: str,
    command: Sequence[str],
    args: Sequence[str] = (),
    scratch: str | None = None,
    service_account: str | None = None,
) -> dict[str, Any]:
    """Return the template of a pod that runs one command to its end, without Istio's sidecar.

    Args:
        pod: what it gets.
        container: name of its container.
        image: container image.
        command: what it runs.
        args: what follows the command.
        scratch: path of an empty folder to write to; the image's root may be read-only.
        service_account: account that it runs as; the namespace's default without it.
    """
    mounted, mounts = volumes(pod)
    if scratch is not None:
        mounted.append({"name": "scratch", "emptyDir": {}})
        mounts.append({"name": "scratch", "mountPath": scratch})
    running: dict[str, Any] = {
        "name": container,
        "image": image,
        "command": list(command),
        "args": list(args),
        "resources": resources(pod),
        "env": environment(pod),
        "volumeMounts": mounts,
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [running],
        "volumes": mounted,
        **placement(pod),
    }
    if service_account is not None:
        spec["serviceAccountName"] = service_account
    return {
        "metadata": {"labels": {**pod.labels, **NO_SIDECAR}, "annotations": {**pod.annotations, **NO_SIDECAR}},
        "spec": spec,
    }


def placement(pod: Pod) -> dict[str, Any]:
    """Return the fields of a pod's spec that say which node it may run on, and how its image is fetched."""
    spec: dict[str, Any] = {}
    if pod.node_selector:
        spec["nodeSelector"] = dict(pod.node_selector)
    if pod.tolerations:
        spec["tolerations"] = [toleration_fields(one) for one in pod.tolerations]
    if pod.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in pod.image_pull_secrets]
    return spec


def toleration_fields(toleration: Toleration) -> dict[str, Any]:
    """Return a toleration in Kubernetes' form."""
    fields = toleration.model_dump(exclude={"seconds"}, exclude_none=True)
    if toleration.seconds is not None:
        fields["tolerationSeconds"] = toleration.seconds
    return fields


def digest_of(body: Mapping[str, Any]) -> str:
    """Return the digest of an object, short enough for a label."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
