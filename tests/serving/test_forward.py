"""The API server is asked for a tunnel to a pod; who answers at its end is our real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from kserve_controller import KServe
from kubernetes_api import KubernetesApi, connected, running

from caloforge.cluster import Cluster
from caloforge.errors import InputError
from caloforge.serving.forward import forwarded, reachable
from caloforge.serving.inference_service import ServiceSettings, inference_service
from caloforge.serving.local import free_port
from caloforge.serving.rollout import DeployFailed, Rollout
from caloforge.serving.smoke import TOLERANCE, Reference, check_server, reference_showers

OUTSIDE = "http://calo-team.nowhere.invalid"
"""What KServe calls a service where nobody has set up a domain: unknown outside the cluster."""


@pytest.fixture
def api(server: Any) -> Iterator[KubernetesApi]:
    with running(KubernetesApi("inferenceservices")) as api:
        host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
        assert host is not None
        assert port is not None
        api.forwards["calo-predictor-1", 8080] = host, port
        yield api


@pytest.fixture
def cluster(api: KubernetesApi) -> Iterator[Cluster]:
    with connected(api) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def reference(tiny_bundle: Path) -> Reference:
    return reference_showers(tiny_bundle, seed=4)


def test_a_tunnel(cluster: Cluster, reference: Reference) -> None:
    with forwarded(cluster, "calo-predictor-1", 8080) as url:
        assert check_server(url, reference)["max_relative_difference"] <= TOLERANCE
        with httpx.Client(base_url=url, trust_env=False) as client:
            for _ in range(3):
                assert client.get("/v2/health/ready").status_code == 200, "several requests on one connection"
            assert len(client.post("/v2/models/caloforge/infer", content=b"x" * 3_000_000).content) > 0
    port = urlsplit(url).port
    assert port is not None
    assert not reachable("127.0.0.1", port), "it is closed again"


def test_a_pod_that_does_not_listen(api: KubernetesApi, cluster: Cluster) -> None:
    api.forwards["calo-predictor-1", 8080] = "127.0.0.1", free_port()
    with forwarded(cluster, "calo-predictor-1", 8080) as url, pytest.raises(httpx.TransportError):
        httpx.get(url, trust_env=False)


@pytest.mark.parametrize(("pod", "script", "told"), [("calo-predictor-1", [403], "403"), ("another", [], "404")])
def test_refusals(pod: str, script: list[int | str], told: str, api: KubernetesApi, cluster: Cluster) -> None:
    api.script = script
    with (
        pytest.raises(InputError, match=rf"pod {pod} cannot be reached .*pods/portforward.*{told}"),
        forwarded(cluster, pod, 8080),
    ):
        pass


def test_reachable(server: Any) -> None:
    parts = urlsplit(server.url)
    assert parts.port is not None
    assert reachable("127.0.0.1", parts.port)
    assert not reachable("127.0.0.1", free_port())
    assert not reachable("calo-team.nowhere.invalid", 80)


@pytest.mark.parametrize("knative", [False, True])
def test_a_deployment_from_outside_the_cluster(
    knative: bool, api: KubernetesApi, cluster: Cluster, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    KServe(api, OUTSIDE, knative=knative)
    caplog.set_level("INFO")
    body = inference_service("calo", "s3://bucket/new", ServiceSettings())
    url, figures = Rollout(body, cluster).complete(reference, headers=None, timeout=5)
    assert url == OUTSIDE, "as others reach it"
    assert figures["max_relative_difference"] <= TOLERANCE
    assert f"{OUTSIDE} cannot be reached from here; asking pod calo-predictor-1 through the API server" in caplog.text
    assert api.of("inferenceservices"), "it stays"


def test_neither_way(api: KubernetesApi, cluster: Cluster, reference: Reference) -> None:
    KServe(api, OUTSIDE)
    api.forwards.clear()
    body = inference_service("calo", "s3://bucket/new", ServiceSettings())
    with pytest.raises(DeployFailed, match=r"calo-predictor-1 cannot be reached through the API server.*deleted again"):
        Rollout(body, cluster).complete(reference, headers=None, timeout=5)
