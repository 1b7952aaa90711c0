"""What a pod gets on a cluster: one settings class, and its Kubernetes form for every object that makes pods."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from caloforge import __version__
from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.kubernetes_rules import (
    BINARY_UNITS,
    DECIMAL_UNITS,
    AnnotationKey,
    Bytes,
    BytesOrNone,
    EnvironmentName,
    LabelValue,
    MountPath,
    ObjectName,
    QualifiedName,
    Quantity,
    QuantityOrNone,
    ResourceName,
    SecretEntry,
    amount,
    check_annotations,
    check_mounts,
)
from caloforge.secrets import BY_REFERENCE, check_names, find_secrets

IMAGE = f"ghcr.io/caloforge/python-caloforge:{__version__}"
"""The image of every step, trial and server. Never ``latest``: the tag is part of Kubeflow's cache
key. kfp.local looks for "python" in it."""

NO_SIDECAR: Mapping[str, str] = {"sidecar.istio.io/inject": "false"}
"""A job with Istio's sidecar never ends. Old versions of Istio read the annotation, new ones the label."""

USER = 10001
"""The image's user, see docker/Dockerfile; its group is 0."""

POD_SECURITY: Mapping[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
"""What Pod Security ``restricted`` wants of a pod; containers that others put into it inherit it."""

CONTAINER_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
"""What it wants of a container, and a root that nobody writes to."""

TEMPORARY = "/tmp"
"""The only folder beside its claims that a container of the image writes to: its home and all caches lie there."""

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Every pod that may talk to its cluster has this folder."""


def in_pod() -> bool:
    """Return whether this runs in a pod: what the backend ``auto`` goes by."""
    return ACCOUNT.exists()


class Plain(Config):
    """Settings that an object of the cluster shows to whoever sees it."""

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, values: Any) -> Any:
        """Refuse secrets before anything else may quote them: whoever sees the object may read its plain fields."""
        if isinstance(values, Mapping):
            refuse_secrets(values)
        return values


class Toleration(Plain):
    """A taint that a pod may ignore, as in Kubernetes.

    Attributes:
        key: of the taint; all taints without it.
        operator: ``Exists``, or ``Equal`` to compare the value too.
        value: of the taint.
        effect: of the taint; all effects without it.
        seconds: how long a ``NoExecute`` taint is borne; for ever without it.
    """

    key: QualifiedName | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    seconds: int | None = Field(default=None, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _as_kubernetes_has_it(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise PydanticCustomError("toleration", "a value is compared by the operator Equal only, not by Exists")
        if self.operator == "Equal" and self.key is None:
            raise PydanticCustomError("toleration", "the operator Equal needs a key")
        if self.seconds is not None and self.effect != "NoExecute":
            raise PydanticCustomError("toleration", "seconds go with the effect NoExecute only")
        return self


class SecretKey(Config):
    """One entry of a Secret.

    Attributes:
        secret: name of the Secret.
        key: name of the entry.
    """

    secret: ObjectName
    key: SecretEntry


class Pod(Plain):
    """What a pod asks of the cluster and finds there; a local run takes its environment variables only.

    Attributes:
        cpu: requested cores, as Kubernetes writes them.
        cpu_limit: most cores, where a namespace demands a limit; empty: none.
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
    cpu_limit: QuantityOrNone = ""
    memory: Bytes = "8G"
    gpus: int = Field(default=0, ge=0, le=1024)
    gpu_type: ResourceName = "nvidia.com/gpu"
    node_selector: dict[QualifiedName, LabelValue] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    env: dict[EnvironmentName, str] = Field(default_factory=dict)
    secret_env: dict[EnvironmentName, SecretKey] = Field(default_factory=dict)
    secret_volumes: dict[ObjectName, MountPath] = Field(default_factory=dict)
    claims: dict[ObjectName, MountPath] = Field(default_factory=dict)
    shm: BytesOrNone = ""
    labels: dict[QualifiedName, LabelValue] = Field(default_factory=dict)
    annotations: dict[AnnotationKey, str] = Field(default_factory=dict)
    image_pull_secrets: tuple[ObjectName, ...] = ()

    @model_validator(mode="after")
    def _as_kubernetes_has_it(self) -> Self:
        check_annotations(self.annotations)
        shared_memory = {"shm": "/dev/shm"} if self.shm else {}
        check_mounts(
            (f"{kind} {name!r}" if kind != "shm" else kind, path)
            for kind, mounts in (("secret", self.secret_volumes), ("claim", self.claims), ("shm", shared_memory))
            for name, path in mounts.items()
        )
        if twice := sorted(self.env.keys() & self.secret_env.keys()):
            text = f"environment variable {twice[0]!r} is in both env and secret_env"
            raise PydanticCustomError("twice", "{text}", {"text": text})
        return self


_NAMED_BY_PEOPLE = ("env", "labels", "annotations", "node_selector")
"""Maps of a pod whose keys tell what their values are."""


def refuse_secrets(values: Mapping[str, Any]) -> None:
    """Refuse settings that hold a secret, by its looks or by the name of its variable.

    Raises:
        PydanticCustomError: the message names the key and never the value.
    """
    maps = {name: values[name] for name in _NAMED_BY_PEOPLE if isinstance(values.get(name), Mapping)}
    named = (problem for name, entries in maps.items() for problem in check_names(name, entries))
    for problem in (*named, *find_secrets(values)):
        text = f"{problem} and would be readable in the pipeline; {BY_REFERENCE}"
        raise PydanticCustomError("secret", "{text}", {"text": text})


def cpu_limit(pod: Pod) -> str:
    """Return the most cores of a pod, empty for as many as the node has free.

    Raises:
        InputError: it is less than what the pod requests, which Kubernetes refuses.
    """
    if pod.cpu_limit and amount(pod.cpu_limit) < amount(pod.cpu):
        raise InputError(f"cpu_limit ({pod.cpu_limit}) is less than cpu ({pod.cpu}); raise it, or request less")
    return pod.cpu_limit


def resources(pod: Pod) -> dict[str, dict[str, str]]:
    """Return the requests and limits of the one container of a pod.

    Raises:
        InputError: see :func:`cpu_limit`.
    """
    wanted = {"cpu": pod.cpu, "memory": pod.memory}
    bounded = {"memory": pod.memory}
    if limit := cpu_limit(pod):
        bounded["cpu"] = limit
    if pod.gpus:
        wanted[pod.gpu_type] = bounded[pod.gpu_type] = str(pod.gpus)
    return {"requests": wanted, "limits": bounded}


def cores(quantity: str) -> int:
    """Return a number of cores as a whole number, at least 1."""
    return max(1, math.ceil(amount(quantity)))


def plain_environment(pod: Pod) -> dict[str, str]:
    """Return the environment variables that are no secrets.

    Torch starts a thread for each core of the node, and all of them stand still when they have used up a limit
    together: where there is one, it is told.
    """
    threads = {"OMP_NUM_THREADS": str(cores(pod.cpu_limit))} if pod.cpu_limit else {}
    return {**threads, **pod.env}


def environment(pod: Pod) -> list[dict[str, Any]]:
    """Return the environment variables of a container, in Kubernetes' form."""
    # A value that is empty is not written: see :func:`without_empty`.
    plain: list[dict[str, Any]] = [
        {"name": name, "value": value} if value else {"name": name} for name, value in plain_environment(pod).items()
    ]
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": source.secret, "key": source.key}}}
        for name, source in pod.secret_env.items()
    ]
    return plain + secret


def volumes(pod: Pod) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the volumes of a pod and their mounts in its container, in Kubernetes' form.

    One is an empty folder at :data:`TEMPORARY`, unless the pod has something else there.
    """
    sources: dict[str, tuple[str, dict[str, Any]]] = {}
    for number, (claim, path) in enumerate(pod.claims.items()):
        sources[f"claim-{number}"] = path, {"persistentVolumeClaim": {"claimName": claim}}
    for number, (secret, path) in enumerate(pod.secret_volumes.items()):
        sources[f"secret-{number}"] = path, {"secret": {"secretName": secret}}
    if pod.shm:
        sources["shm"] = "/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": canonical(pod.shm)}}
    if all(Path(path) != Path(TEMPORARY) for path, _ in sources.values()):
        sources["tmp"] = TEMPORARY, {"emptyDir": {}}
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
    service_account: str | None = None,
    user: int | None = None,
) -> dict[str, Any]:
    """Return the template of a pod that runs one command to its end, without Istio's sidecar.

    Args:
        pod: what it gets.
        container: name of its container.
        image: container image.
        command: what it runs.
        args: what follows the command.
        service_account: account that it runs as; the namespace's default without it.
        user: number of the user that all its containers run as; that of each image without it.
    """
    mounted, mounts = volumes(pod)
    running: dict[str, Any] = {
        "name": container,
        "image": image,
        "command": list(command),
        "args": list(args),
        "resources": resources(pod),
        "env": environment(pod),
        "volumeMounts": mounts,
        "securityContext": dict(CONTAINER_SECURITY),
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": user, **POD_SECURITY},
        "containers": [running],
        "volumes": mounted,
        **placement(pod),
        "serviceAccountName": service_account,
        "automountServiceAccountToken": False,  # what it runs never talks to the cluster
    }
    return without_empty({"metadata": pod_metadata(pod), "spec": spec})


def pod_metadata(pod: Pod) -> dict[str, dict[str, str]]:
    """Return the labels and annotations of a pod that ends, which therefore must have no sidecar of Istio."""
    return {"labels": {**pod.labels, **NO_SIDECAR}, "annotations": {**pod.annotations, **NO_SIDECAR}}


def placement(pod: Pod) -> dict[str, Any]:
    """Return the fields of a pod's spec that say which node it may run on, and how its image is fetched."""
    return without_empty(
        {
            "nodeSelector": dict(pod.node_selector),
            "tolerations": [toleration_fields(one) for one in pod.tolerations],
            "imagePullSecrets": [{"name": name} for name in pod.image_pull_secrets],
        }
    )


def toleration_fields(toleration: Toleration) -> dict[str, Any]:
    """Return a toleration in Kubernetes' form."""
    fields = {key: value for key, value in toleration.model_dump(exclude={"seconds"}).items() if value}
    if toleration.seconds is not None:
        fields["tolerationSeconds"] = toleration.seconds
    return fields


_BY_PRESENCE = frozenset({"emptyDir", "grid"})
"""Fields that say something although they are empty: an empty folder, a search without settings."""


def without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object of Kubernetes without its empty lists and maps and nulls, however deep.

    They mean nothing there, and the types of Kubernetes drop them. Katib's webhook refuses what the types drop.
    Empty texts stay: that of a label is its value.
    """
    return {
        key: value
        for key, value in ((key, _shortened(value)) for key, value in fields.items())
        if key in _BY_PRESENCE or not (value is None or (isinstance(value, dict | list) and not value))
    }


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_empty(value)
    if isinstance(value, list | tuple):
        return [_shortened(item) for item in value]
    return value


def canonical(quantity: str) -> str:
    """Return an amount as Kubernetes itself writes it: 1024Mi is 1Gi, 0.5 is 500m, 2048M stays.

    The greatest unit that needs no fraction is taken, of the kind (binary or decimal) that was given.
    """
    number = amount(quantity)
    binary = quantity.endswith("i") and number >= 1024
    units = {"": Decimal(1), **BINARY_UNITS} if binary else DECIMAL_UNITS
    unit = max((unit for unit, size in units.items() if number % size == 0), key=units.__getitem__, default="m")
    return f"{math.ceil(number / units[unit])}{unit}" if number else "0"


def digest_of(body: Mapping[str, Any]) -> str:
    """Return the digest of an object, short enough for a label."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
