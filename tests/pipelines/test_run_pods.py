"""A pod that waits, told by the cluster; the objects are a real one's with what Kubernetes would say instead."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kfp_api
import pytest
from kfp_api import KfpApi, Object, step_nodes
from kubernetes_api import KubernetesApi
from kubernetes_api import running as cluster_running
from recorded import recorded, specification, write_kubeconfig

from caloforge.pipelines.kubeflow import Kubeflow, connect
from caloforge.pipelines.specification import steps_of
from caloforge.pipelines.status import Status, status
from caloforge.pipelines.watch import wait

KUBECONFIG = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
PATH = next(step.path for step in steps_of(specification(), {}) if step.title == "train [vae]")
NODE = "(0).".join((kfp_api.WORKFLOW, *PATH)) + "(0).executor({})"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KubernetesApi]:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with cluster_running(KubernetesApi("persistentvolumeclaims")) as cluster:
        monkeypatch.setattr(KUBECONFIG, str(write_kubeconfig(tmp_path / "config", cluster.url)))
        yield cluster


@pytest.fixture
def api() -> Iterator[KfpApi]:
    with kfp_api.running(KfpApi()) as api:
        api.add("versions", {"pipeline_id": "p", "pipeline_spec": specification()})
        api.add("runs", {
            "display_name": "first", "state": "RUNNING",
            "pipeline_version_reference": {"pipeline_id": "p", "pipeline_version_id": "versions-1"},
        })  # fmt: skip
        yield api


@pytest.fixture
def kubeflow(api: KfpApi) -> Kubeflow:
    return connect(api.url, poll_seconds=0.01, patience=1.0)


def _pod(cluster: KubernetesApi, *, attempt: int = 0, age: float = 60.0, **status: Any) -> Object:
    """Put a pod of the training there."""
    [pod] = [
        deepcopy(one) for one in recorded("pods_image_missing")["items"]
        if one["metadata"]["annotations"]["pipelines.kubeflow.org/runtime-role"] == "launcher"
    ]  # fmt: skip
    metadata = pod["metadata"]
    metadata["name"] = f"{kfp_api.WORKFLOW}-{attempt}"
    metadata["labels"]["pipeline/runid"] = "runs-1"
    metadata["annotations"]["workflows.argoproj.io/node-name"] = NODE.format(attempt)
    metadata["creationTimestamp"] = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    pod["status"] = {**pod["status"], **status}
    pod["spec"]["containers"][1]["resources"] = {
        "limits": {"memory": "3Gi", "nvidia.com/gpu": "2"}, "requests": {"memory": "3Gi", "nvidia.com/gpu": "2"},
    }  # fmt: skip
    assert pod["spec"]["containers"][1]["name"] == "main"
    cluster.objects["pods", "kubeflow", metadata["name"]] = pod
    return pod


def _unscheduled(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition], "containerStatuses": []}


def _ended(code: int, reason: str, message: str = "") -> dict[str, Any]:
    ended = {"exitCode": code, "reason": reason, "message": message, "finishedAt": "2026-01-02T03:05:48Z",
             "startedAt": "2026-01-02T03:04:05Z"}  # fmt: skip
    phase = "Failed" if code else "Succeeded"
    return {"phase": phase, "containerStatuses": [{"name": "main", "state": {"terminated": ended}}]}


def _train(now: Status) -> tuple[str, int, str]:
    progress = next(one.progress for one in now.steps if one.title == "train [vae]")
    return progress.state, progress.attempt, progress.cause


def test_no_node_has_the_gpus(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    _pod(cluster, **_unscheduled("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."))
    assert _train(status(kubeflow, "runs-1")) == ("pending", 1, "no node has 2 nvidia.com/gpu")


@pytest.mark.parametrize(
    ("phase", "cause"),
    [("Pending", "claim caloforge-work: Pending"), (None, "claim caloforge-work: is not there")],
)
def test_a_claim(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi, phase: str | None, cause: str) -> None:
    pod = _pod(cluster, **_unscheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."))
    pod["spec"]["volumes"] = [{"name": "w", "persistentVolumeClaim": {"claimName": "caloforge-work"}}]
    if phase:
        claim = {"metadata": {"name": "caloforge-work"}, "status": {"phase": phase}}
        cluster.add("persistentvolumeclaims", claim, namespace="kubeflow")
    assert _train(status(kubeflow, "runs-1")) == ("pending", 1, cause)


def test_a_secret_to_mount(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    waits = {"name": "main", "state": {"waiting": {"reason": "PodInitializing"}}}
    pod = _pod(cluster, phase="Pending", conditions=[], containerStatuses=[waits])
    text = 'MountVolume.SetUp failed for volume "secret-0" : secret "krb5" not found'
    for name, message in ((pod["metadata"]["name"], text), ("other", 'secret "other" not found')):
        event = {"metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": name}, "message": message}
        cluster.add("events", event, namespace="kubeflow")
    assert _train(status(kubeflow, "runs-1")) == ("pending", 1, "secret krb5: is not there")


def test_a_pod_that_was_refused_is_told_by_argos_event(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    driver = _pod(cluster, phase="Succeeded")
    driver["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = (
        "(0).".join((kfp_api.WORKFLOW, *PATH)) + "-driver(0)"
    )
    refused = (
        'pods "x" is forbidden: error looking up service account kubeflow/runner: serviceaccount "runner" not found'
    )
    for number, node in enumerate((NODE.format(0), NODE.format(0).replace("(0:0)", "(1:1)"))):
        event = {
            "metadata": {"name": f"e{number}"}, "involvedObject": {"kind": "Workflow", "name": kfp_api.WORKFLOW},
            "message": f"Error node {node}: {refused.replace('runner', 'other') if number else refused}",
        }  # fmt: skip
        cluster.add("events", event, namespace="kubeflow")
    assert _train(status(kubeflow, "runs-1")) == ("pending", 1, "service account runner: is not there")


def test_a_step_that_was_only_prepared_came_from_the_cache(
    api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi
) -> None:
    """The list stopped before it; of its pods there is only the one that looked into the cache."""
    driver = _pod(cluster, phase="Succeeded")
    driver["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = (
        "(0).".join((kfp_api.WORKFLOW, *PATH)) + "-driver(0)"
    )
    api.play = lambda run: run.update(state="SUCCEEDED")
    assert _train(status(kubeflow, "runs-1")) == ("cached", 1, "")


def test_a_container_whose_pod_was_cleaned_away_has_not_gone_back(
    api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi
) -> None:
    driver = _pod(cluster, phase="Succeeded")
    driver["metadata"]["annotations"]["workflows.argoproj.io/node-name"] = (
        "(0).".join((kfp_api.WORKFLOW, *PATH)) + "-driver(0)"
    )
    api.play = lambda run: run["run_details"].update(task_details=step_nodes(PATH, "RUNNING"))
    assert _train(status(kubeflow, "runs-1")) == ("running", 1, "")


def test_out_of_memory_in_the_second_attempt(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    _pod(cluster, attempt=0, **_ended(1, "Error", "the first"))
    _pod(cluster, attempt=1, **_ended(137, "OOMKilled"))
    assert _train(status(kubeflow, "runs-1")) == ("failed", 2, "OOMKilled: memory is 3Gi")


def test_a_family_that_failed_left_a_message(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    nodes = step_nodes(PATH, "SUCCEEDED")
    api.play = lambda run: run["run_details"].update(task_details=nodes)
    _pod(cluster, **_ended(0, "Completed", "diverged at step 12"))
    assert _train(status(kubeflow, "runs-1")) == ("failed", 1, "diverged at step 12")
    assert not [path for _, path, *_ in api.requests if path.endswith("/log")], "the pod has said it"


def test_a_pod_that_waits_is_told_once(
    api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi, caplog: pytest.LogCaptureFixture
) -> None:
    pod = _pod(cluster, age=20, **_unscheduled("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."))
    looks = 0

    def play(run: Object) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:  # it has waited for longer than 30 s
            pod["metadata"]["creationTimestamp"] = (datetime.now(UTC) - timedelta(seconds=42)).isoformat()
        if looks == 6:
            run["state"] = "SUCCEEDED"

    api.play = play
    with caplog.at_level("INFO", logger="caloforge.pipelines.watch"):
        wait(kubeflow, "runs-1")
    waits = [line for line in caplog.messages if "does not start" in line]
    assert waits == ["train [vae]: does not start for 0:42: no node has 2 nvidia.com/gpu"]


def test_a_namespace_that_was_named_is_the_one_that_is_asked(api: KfpApi, cluster: KubernetesApi) -> None:
    _pod(cluster, **_unscheduled("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."))
    theirs = connect(api.url, namespace="profile", poll_seconds=0.01, patience=1.0)
    assert _train(status(theirs, "runs-1"))[0] == "waiting"
    assert all("/namespaces/profile/" in path for _, path, _ in cluster.requests)
