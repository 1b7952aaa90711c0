"""A cluster that lacks nothing, for the doctor, and ways to read its findings."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes_api import KubernetesApi
from local_server import QuietHandler, listening

from caloforge.pipelines.findings import Finding

SECRET = "planted-8f2c"
GROUPS = {
    "serving.kserve.io": {"v1beta1": ["inferenceservices"]},
    "kubeflow.org": {"v1beta1": ["experiments", "trials"]},
    "trainer.kubeflow.org": {"v1alpha1": ["trainjobs", "clustertrainingruntimes"]},
}
LABELS = {
    "katib.kubeflow.org/metrics-collector-injection": "enabled",
    "app.kubernetes.io/part-of": "kubeflow-profile",
}
SETTINGS: dict[str, Any] = {
    "namespace": "team",
    "data": "s3://bucket/showers.hdf5",
    "deploy": "calo",
    "pod": {
        "claims": {"data": "/data"},
        "secret_env": {"AWS_ACCESS_KEY_ID": {"secret": "s3", "key": "id"}},
        "image_pull_secrets": ["registry"],
    },
    "resources": {"train": {"gpus": 2, "node_selector": {"zone": "a"}, "tolerations": [{"key": "nvidia.com/gpu"}]}},
}

KINDS = (
    "clustertrainingruntimes", "limitranges", "nodes", "persistentvolumeclaims", "resourcequotas", "secrets",
    "serviceaccounts", "storageclasses",
)  # fmt: skip

Alter = Callable[[KubernetesApi], Any]


class Registry:
    """Holds one image, and lets everybody in who asks for a token first."""

    def __init__(self) -> None:
        self.tags = {"1.0"}
        self.private = False
        self.url = ""

    def status(self, path: str, authorization: str | None) -> int:
        if path.startswith("/token"):
            return 403 if self.private else 200
        if authorization != "Bearer given":
            return 401
        return 200 if path.rpartition("/")[2] in self.tags else 404


@contextmanager
def running_registry() -> Iterator[Registry]:
    registry = Registry()

    class Handler(QuietHandler):
        def _serve(self) -> None:
            status = registry.status(self.path, self.headers["Authorization"])
            content = b'{"token": "given"}' if self.path.startswith("/token") else b""
            self.send_response(status)
            if status == 401:
                realm = f"http://{registry.url}/token"
                self.send_header(
                    "WWW-Authenticate", f'Bearer realm="{realm}",service="us",scope="repository:ours:pull"'
                )
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = _serve

    with listening(Handler) as url:
        registry.url = url.removeprefix("http://")
        yield registry


def fill(api: KubernetesApi, registry: str) -> None:
    """Put there what the settings above ask for."""
    api.groups = {group: dict(versions) for group, versions in GROUPS.items()}
    api.add("namespaces", {"metadata": {"name": "team", "labels": dict(LABELS)}}, namespace="")
    api.add("serviceaccounts", {"metadata": {"name": "default-editor"}}, namespace="team")
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    api.add("storageclasses", {"metadata": {"name": "standard", "annotations": default}}, namespace="")
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}}
    api.add("persistentvolumeclaims", claim, namespace="team")
    secret = base64.b64encode(SECRET.encode()).decode()
    api.add("secrets", {"metadata": {"name": "s3"}, "data": {"id": secret}}, namespace="team")
    api.add("secrets", pull_secret("registry", registry), namespace="team")
    api.add("nodes", node("gpu-1", gpus=4, labels={"zone": "a"}, taint="nvidia.com/gpu"), namespace="")
    api.add("nodes", node("cpu-1"), namespace="")
    api.add("clustertrainingruntimes", {"metadata": {"name": "torch-distributed"}}, namespace="")


def pull_secret(name: str, *registries: str) -> dict[str, Any]:
    """Return a Secret with the passwords of registries."""
    auths = {registry: {"username": "me", "password": SECRET} for registry in registries}
    content = base64.b64encode(json.dumps({"auths": auths}).encode()).decode()
    return {
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": content},
    }


def node(
    name: str, *, cpu: str = "15890m", memory: str = "63843340Ki", gpus: int = 0, labels: Any = None, taint: str = ""
) -> dict[str, Any]:
    """Return a node as the API server shows it."""
    allocatable = {"cpu": cpu, "ephemeral-storage": "47093746742", "memory": memory, "pods": "110"}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]} if taint else {},
        "status": {
            "allocatable": {**allocatable, "nvidia.com/gpu": str(gpus)} if gpus else allocatable,
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
        },
    }


def of(found: dict[str, list[Finding]], name: str, state: str) -> str:
    """Return the findings of a check in one state, one a line."""
    return "\n".join(f"{f.text} -> {f.fix}" for f in found[name] if f.state == state)
