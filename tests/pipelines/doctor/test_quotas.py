"""Quotas and limit ranges: what was seen on a cluster, and what the API server would refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from healthy_cluster import of
from kubernetes_api import KubernetesApi

from caloforge.pipelines.doctor.admission import Container, RunPod, charged, refusals, unstated, with_defaults
from caloforge.pipelines.doctor.doctor import examine
from caloforge.pipelines.doctor.planned_pods import ARGO, DRIVER, LAUNCHER
from caloforge.pipelines.manifests.manifests import manifests
from caloforge.pipelines.settings import PipelineSettings

ADMITTED = json.loads((Path(__file__).parents[2] / "data/kubeflow/pods_as_admitted.json").read_text())


def example(name: str) -> dict[str, Any]:
    """Return an object of the folder examples/quota."""
    content: dict[str, Any] = yaml.safe_load(manifests(PipelineSettings())[f"examples/quota/{name}.yaml"])
    return content


def limit(api: KubernetesApi, **item: Any) -> None:
    content = {"metadata": {"name": "limits"}, "spec": {"limits": [{"type": "Container", **item}]}}
    api.add("limitranges", content, namespace="team")


def allow(api: KubernetesApi, hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> None:
    status = {"hard": hard, "used": dict.fromkeys(hard, "0") | (used or {})}
    content = {"metadata": {"name": "share"}, "spec": {"hard": hard, **spec}, "status": status}
    api.add("resourcequotas", content, namespace="team")


def of_quotas(settings: PipelineSettings, state: str) -> str:
    return of(examine(settings=settings), "quotas", state)


def test_what_others_put_into_a_pod_is_what_a_cluster_showed() -> None:
    """Kubeflow Pipelines 2.17 over Argo 4."""

    def containers(pod: Any) -> set[Container]:
        spec = pod["spec"]
        started = [Container.of(one["name"], one["resources"], starts=True) for one in spec["initContainers"]]
        return {
            str(one) for one in [*started, *(Container.of(one["name"], one["resources"]) for one in spec["containers"])]
        }  # type: ignore[misc]

    asked = Container.of("main", {"requests": {"cpu": "500m", "memory": "4G"}, "limits": {"memory": "4G"}})
    step = [*ARGO, Container.of("kfp-launcher", LAUNCHER, starts=True), asked]
    assert containers(ADMITTED["step"]) == {str(one) for one in step}
    assert containers(ADMITTED["driver"]) == {str(one) for one in [*ARGO, Container.of("main", DRIVER)]}
    assert [one["name"] for one in ADMITTED["node"]["spec"]["containers"]] == ["node"]


def test_a_quota_without_a_limit_range_stops_every_pipeline(api: KubernetesApi, settings: PipelineSettings) -> None:
    """Seen: ``failed quota: must specify requests.cpu for: init,wait``."""
    api.add("resourcequotas", example("resourcequota"), namespace="team")
    said = of_quotas(settings, "failed")
    assert "quota caloforge wants requests.cpu, requests.memory of every container, and init, wait state none" in said
    assert "no pipeline starts -> kubectl apply --namespace team -f manifests/examples/quota/limitrange.yaml" in said


def test_the_example_lets_every_pod_of_a_run_start(api: KubernetesApi, settings: PipelineSettings) -> None:
    api.add("resourcequotas", example("resourcequota"), namespace="team")
    api.add("limitranges", example("limitrange"), namespace="team")
    found = examine()["quotas"], examine(settings=settings)["quotas"]
    assert {finding.state for findings in found for finding in findings} == {"ok"}
    assert "quota caloforge has room for each of a run's pods" in of_quotas(settings, "ok")


def test_a_quota_on_limits_of_cores(api: KubernetesApi, settings: PipelineSettings) -> None:
    allow(api, {"limits.cpu": "20"})
    limit(api, defaultRequest={"cpu": "20m"})
    said = of_quotas(settings, "failed")
    assert re.search("wants limits.cpu of every container, and init, wait state none.*kubectl edit limitrange", said)
    assert re.search("wants limits.cpu of .*train.*which state none -> pod: {cpu_limit:", said)


def test_a_limit_range_that_limits_less_than_a_step_requests(api: KubernetesApi, settings: PipelineSettings) -> None:
    allow(api, {"limits.cpu": "20"})
    limit(api, default={"cpu": "1"}, defaultRequest={"cpu": "20m"})
    said = of_quotas(settings, "failed")
    assert re.search("limit range limits refuses .*train.*: main requests 2 cpu, more than its limit of 1", said)
    assert "server" not in said, "which requests one core"


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"max": {"memory": "4Gi"}}, "main: takes 7.5Gi memory, at most 4.0Gi is allowed"),
        ({"max": {"cpu": "1"}}, "main requests 2 cpu, more than its limit of 1"),
        ({"min": {"cpu": "200m"}}, "kfp-launcher: requests 0.1 cpu, at least 0.2 is wanted"),
        ({"type": "Pod", "max": {"memory": "4Gi"}}, "all containers together: takes 7.[0-9]Gi memory"),
    ],
)
def test_what_a_limit_range_refuses(
    item: dict[str, Any], said: str, api: KubernetesApi, settings: PipelineSettings
) -> None:
    limit(api, **item)
    assert re.search(f"limit range limits refuses .*train.*: {said}", of_quotas(settings, "failed"))


@pytest.mark.parametrize(
    ("hard", "used", "state", "said"),
    [
        ({"requests.memory": "4Gi"}, {}, "failed", "quota share allows 4.0Gi requests.memory, .*train.* ask for 7.5Gi"),
        (
            {"requests.nvidia.com/gpu": "1"},
            {},
            "failed",
            "quota share allows 1 requests.nvidia.com/gpu, train ask for 2 -> kubectl describe resourcequota share",
        ),
        (
            {"requests.nvidia.com/gpu": "4"},
            {"requests.nvidia.com/gpu": "3"},
            "warning",
            "quota share has 1 of 4 requests.nvidia.com/gpu left, train would wait",
        ),
        ({"requests.nvidia.com/gpu": "4"}, {"requests.nvidia.com/gpu": "2"}, "ok", "quota share has room"),
        ({"pods": "10"}, {"pods": "10"}, "warning", "quota share has 0 of 10 pods left"),
        ({"memory": "4Gi"}, {}, "failed", "quota share allows 4.0Gi memory"),
        ({"count/inferenceservices.serving.kserve.io": "0"}, {}, "failed", "allows 0 count/inferenceservices"),
        (
            {"count/inferenceservices.serving.kserve.io": "2"},
            {"count/inferenceservices.serving.kserve.io": "2"},
            "warning",
            "allows 2 count/inferenceservices.serving.kserve.io, 2 are there",
        ),
        ({"count/experiments.kubeflow.org": "0"}, {}, "ok", "quota share has room"),
    ],
)
def test_what_a_quota_allows(
    hard: dict[str, str],
    used: dict[str, str],
    state: str,
    said: str,
    api: KubernetesApi,
    settings: PipelineSettings,
) -> None:
    limit(api, defaultRequest={"cpu": "20m", "memory": "64Mi"})
    allow(api, hard, used)
    assert re.search(said, of_quotas(settings, state)), of_quotas(settings, state)


def test_a_quota_for_some_pods_is_not_judged(api: KubernetesApi, settings: PipelineSettings) -> None:
    allow(api, {"pods": "0"}, scopes=["Terminating"])
    assert "quota share holds for some pods only (scope Terminating)" in of_quotas(settings, "unknown")


def test_quotas_that_may_not_be_listed(api: KubernetesApi, settings: PipelineSettings) -> None:
    api.kinds -= {"resourcequotas"}
    assert "may not be listed -> kubectl describe resourcequotas,limitranges" in of_quotas(settings, "unknown")


def test_a_pod_is_charged_what_its_containers_ask_for_or_what_starts_it() -> None:
    big = Container.of("init", {"requests": {"cpu": "3", "memory": "1Gi"}}, starts=True)
    one = Container.of("one", {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}})
    pod = RunPod("pod", (big, one, one))
    assert charged(pod)["requests.cpu"] == charged(pod)["cpu"] == 3
    assert charged(pod)["requests.memory"] == charged(pod)["limits.memory"] == 4 * 2**30, "a limit is a request too"
    assert unstated(pod, ["limits.cpu", "requests.cpu", "pods"]) == {"limits.cpu": ["init", "one", "one"]}


def test_defaults_fill_gaps_only() -> None:
    ranges = [{"spec": {"limits": [{"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}]}}]
    bare, full = Container.of("bare", {}), Container.of("full", {"requests": {"cpu": "4"}, "limits": {"cpu": "8"}})
    filled = with_defaults(RunPod("pod", (bare, full)), ranges)
    assert [(one.requests["cpu"], one.limits["cpu"]) for one in filled.containers] == [(1, 2), (4, 8)]
    assert not list(refusals(filled, ranges))
