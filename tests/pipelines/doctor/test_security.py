"""Pod Security: pods as a cluster admitted them, and what each level refuses of a run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from healthy_cluster import of
from kfp_api import KfpApi
from kubernetes_api import KubernetesApi

from caloforge.pipelines.doctor import examine
from caloforge.pipelines.doctor_security import RESTRICTED_CONTAINER
from caloforge.pipelines.pod_security import LABEL, violations
from caloforge.pipelines.settings import PipelineSettings

ADMITTED = json.loads((Path(__file__).parents[2] / "data/kubeflow/pods_as_admitted.json").read_text())

GOOD: dict[str, Any] = {
    "containers": [{"name": "main", "securityContext": RESTRICTED_CONTAINER}],
    "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "b"}}],
}


def enforce(api: KubernetesApi, level: str) -> None:
    api.objects["namespaces", "", "team"]["metadata"]["labels"][LABEL] = level


def storage_container(api: KubernetesApi, context: Any) -> None:
    """Have KServe's ClusterStorageContainer, whose context its storage initializer gets."""
    api.kinds.add("clusterstoragecontainers")
    container = {"name": "storage-initializer", "image": "kserve/storage-initializer:v0.15.0"}
    if context:
        container["securityContext"] = context
    content = {"metadata": {"name": "default"}, "spec": {"container": container, "workloadType": "initContainer"}}
    api.add("clusterstoragecontainers", content, namespace="")


def katib_config(api: KubernetesApi, text: str) -> None:
    api.kinds.add("configmaps")
    content = {"metadata": {"name": "katib-config"}, "data": {"katib-config.yaml": text}}
    api.add("configmaps", content, namespace="kubeflow")


def test_what_a_cluster_refused() -> None:
    """Seen: of Kubeflow's own pods all pass but the step's own container, and nothing of a TrainJob's pod does."""
    assert violations(ADMITTED["driver"]["spec"], "restricted") == []
    assert violations(ADMITTED["step"]["spec"], "restricted") == ["runAsNonRoot != true (main)"]
    assert violations(ADMITTED["node"]["spec"], "restricted") == [
        "allowPrivilegeEscalation != false (node)",
        "unrestricted capabilities (node)",
        "runAsNonRoot != true (node)",
        "seccompProfile (node)",
    ]
    for pod in ADMITTED.values():
        assert violations(pod["spec"], "baseline") == [], "baseline refuses nothing"


@pytest.mark.parametrize(
    ("changes", "baseline", "restricted"),
    [
        ({}, [], []),
        ({"hostNetwork": True}, ["hostNetwork"], ["hostNetwork"]),
        ({"volumes": [{"name": "eos", "hostPath": {"path": "/eos"}}]}, ["hostPath volumes (eos)"], None),
        ({"volumes": [{"name": "n", "nfs": {"server": "s"}}]}, [], ["restricted volume types (n)"]),
        (
            {"containers": [{"name": "c", "securityContext": {**RESTRICTED_CONTAINER, "runAsUser": 0}}]},
            [],
            ["runAsUser=0 (c)"],
        ),
        (
            {"containers": [{"name": "c", "securityContext": {**RESTRICTED_CONTAINER, "privileged": True}}]},
            ["privileged (c)"],
            None,
        ),
        (
            {
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [
                    {
                        "name": "c",
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
            },
            [],
            [],
        ),
    ],
)
def test_levels(changes: dict[str, Any], baseline: list[str], restricted: list[str] | None) -> None:
    pod = {**GOOD, **changes}
    assert violations(pod, "privileged") == []
    assert violations(pod, "baseline") == baseline
    assert violations(pod, "restricted") == (baseline if restricted is None else restricted)


@pytest.mark.parametrize("level", ["", "privileged", "baseline"])
def test_levels_that_refuse_nothing(level: str, api: KubernetesApi, kfp: KfpApi, settings: PipelineSettings) -> None:
    if level:
        enforce(api, level)
    found = examine(settings=settings, host=kfp.url)
    assert {finding.state for finding in found["security"]} == {"ok"}
    assert ("enforces baseline, which refuses none" in of(found, "security", "ok")) == (level == "baseline")


def test_a_namespace_that_lets_a_run_through(api: KubernetesApi, kfp: KfpApi) -> None:
    enforce(api, "restricted")
    kfp.version = "2.17.0"
    katib_config(
        api, "apiVersion: config.kubeflow.org/v1beta1\ninit:\n  controller:\n    injectSecurityContext: true\n"
    )
    storage_container(api, RESTRICTED_CONTAINER)
    found = examine(host=kfp.url)
    assert "team enforces restricted, which refuses none of a run's pods" in of(found, "security", "ok"), found[
        "security"
    ]


def test_what_restricted_refuses(api: KubernetesApi, kfp: KfpApi) -> None:
    enforce(api, "restricted")
    kfp.version = "2.16.1"
    katib_config(api, "init:\n  controller:\n    webhookPort: 8443\n")
    storage_container(api, None)
    said = of(examine(host=kfp.url), "security", "failed")
    assert re.search(
        "refuses the steps of a pipeline .*Kubeflow Pipelines 2.16.1 does not know the context that our steps ask for"
        ".*DEFAULT_SECURITY_CONTEXT_RUN_AS_NON_ROOT=true",
        said,
    )
    assert re.search("restricted refuses trials: Katib's collector.*injectSecurityContext: true", said)
    assert re.search(
        "restricted refuses servers: KServe's storage-initializer: allowPriv.*kubectl patch clusterstor", said
    )
    assert len(said.splitlines()) == 3, said


def test_only_what_is_asked_for_is_refused(api: KubernetesApi, kfp: KfpApi, settings: PipelineSettings) -> None:
    enforce(api, "restricted")
    kfp.version = "2.17.0"
    found = examine(settings=settings.model_copy(update={"deploy": ""}), host=kfp.url)
    assert {finding.state for finding in found["security"]} == {"ok"}


def test_what_cannot_be_seen_of_the_installation(api: KubernetesApi, kfp: KfpApi) -> None:
    enforce(api, "restricted")
    kfp.version = ""
    found = examine(host=kfp.url)
    assert not of(found, "security", "failed")
    said = of(found, "security", "unknown")
    assert "unless Kubeflow Pipelines is 2.17 or later, which could not be asked" in said
    assert "kubectl get configmap katib-config" in said
    assert "kubectl get clusterstoragecontainer default" in said


def test_a_folder_of_the_node_is_refused(api: KubernetesApi, kfp: KfpApi, settings: PipelineSettings) -> None:
    """As the overlay for CERN mounts EOS."""
    enforce(api, "baseline")
    api.kinds.add("poddefaults")
    volumes = [{"name": "eos", "hostPath": {"path": "/var/eos"}}, {"name": "s", "secret": {"secretName": "s"}}]
    content = {
        "metadata": {"name": "caloforge-eos"},
        "spec": {"selector": {"matchLabels": {"mount-eos": "true"}}, "volumes": volumes},
    }
    api.add("poddefaults", content, namespace="team")
    assert not of(examine(settings=settings, host=kfp.url), "security", "failed")
    pod = settings.pod.model_copy(update={"labels": {"mount-eos": "true"}})
    said = of(examine(settings=settings.model_copy(update={"pod": pod}), host=kfp.url), "security", "failed")
    assert re.search(r"PodDefault caloforge-eos gives preprocess, .*a folder of the node \(/var/eos\): refused", said)
    assert f"kubectl label namespace team {LABEL}=privileged" in said
