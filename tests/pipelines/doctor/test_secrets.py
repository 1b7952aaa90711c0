"""Passwords of registries: the Secret, its type, the registry that it is for."""

from __future__ import annotations

import pytest
from healthy_cluster import SECRET, Registry, of, pull_secret
from kubernetes_api import KubernetesApi

from caloforge.pipelines.doctor import examine, findings_table
from caloforge.pipelines.settings import PipelineSettings


def put(api: KubernetesApi, *registries: str, **changes: object) -> None:
    api.objects.pop(("secrets", "team", "registry"), None)
    api.add("secrets", {**pull_secret("registry", *registries), **changes}, namespace="team")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"type": "Opaque"},
            "image pull secret registry is of type Opaque: nodes look into kubernetes.io/dockerconfigjson",
        ),
        ({"data": {}}, "image pull secret registry has no entry .dockerconfigjson that can be read"),
        ({"data": {".dockerconfigjson": "e30="}}, "has no entry .dockerconfigjson that can be read"),
    ],
)
def test_a_pull_secret_that_no_node_can_use(
    changes: dict[str, object], said: str, api: KubernetesApi, settings: PipelineSettings
) -> None:
    put(api, **changes)
    found = of(examine(settings=settings), "secrets", "failed")
    assert said in found
    assert "kubectl create secret docker-registry registry --namespace team" in found


def test_a_pull_secret_that_is_not_there(api: KubernetesApi, settings: PipelineSettings) -> None:
    api.objects.pop(("secrets", "team", "registry"))
    found = of(examine(settings=settings), "secrets", "failed")
    assert "Secret registry is not in namespace team -> kubectl create secret docker-registry registry" in found


def test_a_pull_secret_for_another_registry(api: KubernetesApi, settings: PipelineSettings, registry: Registry) -> None:
    put(api, "ghcr.io")
    found = examine(settings=settings)
    assert f"no image pull secret has a password for {registry.url}" in of(found, "secrets", "warning")
    assert SECRET not in findings_table(found)


@pytest.mark.parametrize("entry", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
def test_the_docker_hub_has_many_names(entry: str, api: KubernetesApi, settings: PipelineSettings) -> None:
    put(api, entry)
    found = examine(settings=settings.model_copy(update={"image": "team/ours:1"}))
    assert not of(found, "secrets", "warning")
    assert "image pull secret registry, for registry-1.docker.io" in of(found, "secrets", "ok")
