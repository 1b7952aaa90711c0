"""Claims that have no volume yet, and who waits for them."""

from __future__ import annotations

from typing import Any

import pytest
from healthy_cluster import of
from kubernetes_api import KubernetesApi

from caloforge.pipelines.doctor import examine
from caloforge.pipelines.settings import FetchCache, PipelineSettings


def pend(api: KubernetesApi, *, storage_class: str = "standard") -> None:
    """Take the volume of the claim away."""
    claim = api.objects["persistentvolumeclaims", "team", "data"]
    claim["status"]["phase"] = "Pending"
    claim["spec"]["storageClassName"] = storage_class


def wait(api: KubernetesApi, name: str, *, claim: str = "data", phase: str = "Pending") -> None:
    """Have a pod that mounts a claim, as the API server shows it."""
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}}, {"name": "tmp-dir-argo", "emptyDir": {}}]
    pod = {"metadata": {"name": name}, "spec": {"volumes": volumes}, "status": {"phase": phase}}
    api.add("pods", pod, namespace="team")


def event(api: KubernetesApi, name: str, message: str, *, time: str, kind: str = "PersistentVolumeClaim") -> None:
    body: dict[str, Any] = {"metadata": {"name": f"{name}.{time}"}, "reason": "ProvisioningFailed", "message": message}
    body |= {"involvedObject": {"kind": kind, "name": name}, "lastTimestamp": f"2026-11-26T01:{time}:00Z"}
    api.add("events", body, namespace="team")


def test_a_claim_without_a_volume_and_who_waits_for_it(api: KubernetesApi, settings: PipelineSettings) -> None:
    pend(api)
    for number in range(5):
        wait(api, f"step-{number}")
    wait(api, "other", claim="others")
    wait(api, "goes-on", phase="Running")
    event(api, "data", "waiting for a volume", time="10")
    event(api, "data", "no capacity\nleft", time="20")
    event(api, "data-2", "of another claim", time="30")
    event(api, "data", "of a pod of that name", time="40", kind="Pod")
    said = of(examine(settings=settings), "storage", "warning")
    assert "claim data: Pending: ProvisioningFailed: no capacity left; step-0, step-1, step-2 and 2 more wait" in said
    assert "kubectl describe persistentvolumeclaim data --namespace team" in said


def test_a_claim_of_a_storage_class_that_is_not_there(api: KubernetesApi, settings: PipelineSettings) -> None:
    pend(api, storage_class="nfs")
    said = of(examine(settings=settings), "storage", "warning")
    assert "claim data: Pending: storage class nfs is not there; no pod waits for it yet" in said


@pytest.mark.parametrize("waits", [False, True])
def test_a_volume_that_is_made_for_the_first_pod(waits: bool, api: KubernetesApi, settings: PipelineSettings) -> None:
    pend(api)
    api.objects["storageclasses", "", "standard"]["volumeBindingMode"] = "WaitForFirstConsumer"
    if waits:
        wait(api, "step")
    found = examine(settings=settings)
    if waits:
        assert "storage class standard has made no volume; step waits for it" in of(found, "storage", "warning")
    else:
        assert "Pending until the first pod asks for it" in of(found, "storage", "ok")


def test_pods_on_several_nodes_need_a_claim_for_several(api: KubernetesApi, settings: PipelineSettings) -> None:
    api.objects["persistentvolumeclaims", "team", "data"]["spec"]["accessModes"] = ["ReadWriteOnce"]
    assert not of(examine(settings=settings), "storage", "warning")
    distributed = settings.distributed.model_copy(update={"nodes": 2, "shared": "/data/work"})
    found = examine(settings=settings.model_copy(update={"distributed": distributed}))
    assert "claim data: ReadWriteOnce: the pods of a TrainJob share it only" in of(found, "storage", "warning")


def test_a_cache_of_all_steps_needs_a_claim_for_several(api: KubernetesApi, settings: PipelineSettings) -> None:
    settings = settings.model_copy(update={"fetch_cache": FetchCache(claim="data")})
    assert not of(examine(settings=settings), "storage", "warning")
    api.objects["persistentvolumeclaims", "team", "data"]["spec"]["accessModes"] = ["ReadWriteOnce"]
    assert "steps that fetch at the same time share it only" in of(examine(settings=settings), "storage", "warning")
