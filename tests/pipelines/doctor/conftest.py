"""A healthy cluster on the local API server, with Kubeflow Pipelines and a registry beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import healthy_cluster
import kfp_api
import kubernetes_api
import pytest
from healthy_cluster import KINDS, SECRET, SETTINGS, Registry
from kfp_api import KfpApi
from kubernetes_api import KubernetesApi, kubeconfig

from caloforge.pipelines.kubeflow import COOKIES, HOST, TOKEN
from caloforge.pipelines.settings import PipelineSettings


@pytest.fixture
def registry() -> Iterator[Registry]:
    with healthy_cluster.running_registry() as registry:
        yield registry


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpApi]:
    for name in (HOST, TOKEN, COOKIES, "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(TOKEN, SECRET)
    with kfp_api.running(KfpApi(token=SECRET)) as api:
        yield api


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> Iterator[KubernetesApi]:
    with kubernetes_api.running(KubernetesApi(*KINDS)) as api:
        healthy_cluster.fill(api, registry.url)
        path = kubeconfig(api, tmp_path, namespace="team", token=SECRET)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
        monkeypatch.setattr("caloforge.pipelines.doctor.PATIENCE_SECONDS", 0.0)
        yield api


@pytest.fixture
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that is there, for who has its keys."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setattr("caloforge.fetch.look", lambda address: SimpleNamespace(address=address, size=27_000_000))


@pytest.fixture
def settings(registry: Registry) -> PipelineSettings:
    return PipelineSettings.parse({**SETTINGS, "image": f"{registry.url}/ours:1.0"}, where="settings")
