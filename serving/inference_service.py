"""KServe's InferenceService (v1beta1) and ServingRuntime (v1alpha1) as plain dicts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from caloforge.errors import InputError
from caloforge.kubernetes_rules import Bytes, Image, NamespaceOrNone, ObjectNameOrNone, Quantity
from caloforge.pods import (
    CONTAINER_SECURITY,
    IMAGE,
    POD_SECURITY,
    USER,
    Pod,
    cores,
    digest_of,
    environment,
    placement,
    resources,
    volumes,
    without_empty,
)

MODEL_FORMAT = "caloforge"
MODEL_FOLDER = "/mnt/models"
"""Where KServe puts what it fetched."""

LABELS: Mapping[str, str] = {"app.kubernetes.io/name": "caloforge", "app.kubernetes.io/component": "server"}
SPECIFICATION = "caloforge/specification"
"""Label of a server's pods: the digest of what they were made from, by which new ones are told from old ones."""

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", re.ASCII)
# KServe 0.16 renamed them to Standard and Knative and understands these still; 0.15 knows only these.
_MODES = {"Standard": "RawDeployment", "Knative": "Serverless"}


class ServiceSettings(Pod):
    """How a generator is served on a cluster, and where.

    ``claims`` are not mounted in the server (KServe does that itself): they say on which claim a path lies.

    Attributes:
        image: container image with this package; never tag it ``latest``.
        namespace: where the service runs; empty: that of the step, or of the kubeconfig's context.
        service_account: account whose Secrets hold the keys of the object store; empty: the default one.
        mode: how KServe runs it, ``Standard`` (a Deployment) or ``Knative``; empty: as the cluster is set up.
        runtime: name of a ServingRuntime that holds image and command; empty: the service holds its own.
        min_replicas: servers that are always there; 0 lets Knative stop the last one.
        max_replicas: most servers under load.
        request_seconds: bound of one request.
        max_steps: most sampling steps of a request; 0: four times the generator's own number.
        ready_minutes: how long to wait until the service is ready.
    """

    cpu: Quantity = "1"
    memory: Bytes = "4G"
    image: Image = IMAGE
    namespace: NamespaceOrNone = ""
    service_account: ObjectNameOrNone = ""
    mode: Literal["", "Standard", "Knative"] = ""
    runtime: ObjectNameOrNone = ""
    min_replicas: int = Field(default=1, ge=0, le=10_000)
    max_replicas: int = Field(default=3, ge=1, le=10_000)
    request_seconds: int = Field(default=120, ge=1, le=86_400)
    max_steps: int = Field(default=0, ge=0, le=1_000_000)
    ready_minutes: float = Field(default=15.0, gt=0, le=1440)

    @model_validator(mode="after")
    def _replicas(self) -> Self:
        if self.min_replicas > self.max_replicas:
            text = f"min_replicas ({self.min_replicas}) is more than max_replicas ({self.max_replicas})"
            raise PydanticCustomError("replicas", "{text}", {"text": text})
        return self


def check_service_name(name: str) -> None:
    """Refuse a name that KServe would refuse, or that makes a host name too long.

    Raises:
        InputError: with the rule.
    """
    if not _NAME.fullmatch(name):
        text = f"InferenceService {name!r}: expected at most 40 lower-case letters, digits and dashes, a letter first"
        raise InputError(text)


def inference_service(name: str, storage_uri: str, settings: ServiceSettings) -> dict[str, Any]:
    """Return the InferenceService of a bundle.

    By default the service holds its own image and command. So code and weights change together and go
    back together, and nothing but KServe must be installed. With ``settings.runtime`` a ServingRuntime
    holds them: whoever looks after it decides on the image of all services at once.

    Args:
        name: of the service.
        storage_uri: where KServe finds the bundle.
        settings: how it is served.

    Raises:
        InputError: KServe would refuse the name.
    """
    check_service_name(name)
    predictor: dict[str, Any] = {
        "minReplicas": settings.min_replicas,
        "maxReplicas": settings.max_replicas,
        "timeout": settings.request_seconds,
        **placement(settings),
        "serviceAccountName": settings.service_account or None,
        "automountServiceAccountToken": False,  # a server never talks to its cluster
        "annotations": dict(settings.annotations),
        # For the container that fetches the bundle. Knative refuses it: its pods must get it from Knative.
        "securityContext": dict(POD_SECURITY) if settings.mode == "Standard" else None,
    }
    mounted, mounts = _volumes(settings)
    if settings.runtime:
        predictor["model"] = {
            "modelFormat": {"name": MODEL_FORMAT, "version": "1"},
            "runtime": settings.runtime,
            "protocolVersion": "v2",
            "storageUri": storage_uri,
            "resources": resources(settings),
            "env": _environment(settings),
            "volumeMounts": [mount for mount in mounts if mount["name"] != "tmp"],
        }
        predictor["volumes"] = [volume for volume in mounted if volume["name"] != "tmp"]
    else:
        container = server_container(settings)
        container["env"] = [{"name": "STORAGE_URI", "value": storage_uri}, *container["env"]]
        predictor["containers"] = [container]
        predictor["volumes"] = mounted
    predictor = without_empty(predictor)
    predictor["labels"] = {**settings.labels, **LABELS, SPECIFICATION: digest_of(predictor)}
    metadata = {"name": name, "namespace": settings.namespace or None, "labels": dict(LABELS)}
    # A tag gives each new revision an address of its own, at which it is tried before it gets any traffic. It
    # is there from the beginning because KServe makes a new revision whenever an annotation changes.
    annotations = {"serving.kserve.io/enable-tag-routing": "true"}
    if settings.mode:
        annotations["serving.kserve.io/deploymentMode"] = _MODES[settings.mode]
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {**metadata, "annotations": annotations},
        "spec": {"predictor": predictor},
    }
    return without_empty(service)


def serving_runtime(name: str, settings: ServiceSettings) -> dict[str, Any]:
    """Return the ServingRuntime with which services of any bundle can be made, by us or by hand."""
    mounted, _ = _volumes(settings)
    runtime = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "spec": {
            "labels": dict(LABELS),  # of the pods: by them the policies know which servers they are for
            "annotations": {"prometheus.kserve.io/port": "8080", "prometheus.kserve.io/path": "/metrics"},
            "supportedModelFormats": [{"name": MODEL_FORMAT, "version": "1", "autoSelect": True}],
            "protocolVersions": ["v1", "v2", "grpc-v2"],
            "containers": [server_container(settings)],
            "volumes": mounted,
            **placement(settings),
        },
    }
    return without_empty(runtime)


def server_container(settings: ServiceSettings) -> dict[str, Any]:
    """Return the container of a server, without the address of its bundle."""
    return {
        "name": "kserve-container",  # which KServe knows it by
        "image": settings.image,
        "command": ["caloforge", "serve"],
        "args": _arguments(settings),
        "env": _environment(settings),
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],  # Knative wants one only
        "startupProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": 8080},
            "periodSeconds": 2,
            "failureThreshold": 60,
        },
        "readinessProbe": {"httpGet": {"path": "/v2/models/caloforge/ready", "port": 8080}, "periodSeconds": 5},
        "livenessProbe": {
            "httpGet": {"path": "/v2/health/live", "port": 8080},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "resources": resources(settings),
        "securityContext": {"runAsUser": USER, **POD_SECURITY, **CONTAINER_SECURITY},
        "volumeMounts": _volumes(settings)[1],
    }


def _arguments(settings: ServiceSettings) -> list[str]:
    ports = ["--bundle", MODEL_FOLDER, "--http-port", "8080", "--grpc-port", "8081"]
    steps = ["--max-steps", str(settings.max_steps)] if settings.max_steps else []
    return [*ports, "--request-seconds", str(settings.request_seconds), *steps]


def _environment(settings: ServiceSettings) -> list[dict[str, Any]]:
    # torch starts a thread for each core of the node unless told how many it may use. Knative allows no
    # resourceFieldRef, so that the number is worked out here.
    threads = {"OMP_NUM_THREADS": str(cores(settings.cpu_limit or settings.cpu)), **settings.env}
    return environment(settings.model_copy(update={"env": threads}))


def _volumes(settings: ServiceSettings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return volumes(settings.model_copy(update={"claims": {}}))
