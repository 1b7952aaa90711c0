"""Runs of ours as a real Kubeflow tells of them, with and without the cluster's pods."""

from collections.abc import Iterator
from pathlib import Path

import kfp_api
import pytest
from kfp_api import KfpApi
from kubernetes_api import KubernetesApi
from kubernetes_api import running as cluster_running
from recorded import RUNS, recorded, replay, replay_pods, write_kubeconfig

from caloforge.pipelines.kubeflow.client import Kubeflow, connect
from caloforge.pipelines.kubeflow.progress import ENDED
from caloforge.pipelines.kubeflow.show import status_lines
from caloforge.pipelines.kubeflow.status import Status, status
from caloforge.pipelines.kubeflow.watch import end_line

pytestmark = pytest.mark.slow

KUBECONFIG = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
FAMILIES = {
    "run_five_families_tasks_stale": ["vae", "wgan", "coupling_flow", "calodit", "tree"],
    "run_lost_pod": ["vae"], "run_terminated": ["vae"], "run_trainjob": ["vae"],
}  # fmt: skip
"""Where it was not the two of the recorded pipeline; the names are ours, the number is theirs."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpApi]:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(KUBECONFIG, str(tmp_path / "no-cluster"))
    with kfp_api.running(KfpApi()) as api:
        yield api


@pytest.fixture
def kubeflow(api: KfpApi) -> Kubeflow:
    return connect(api.url, poll_seconds=0.01, patience=1.0)


@pytest.fixture
def cluster(api: KfpApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KubernetesApi]:
    with cluster_running(KubernetesApi("persistentvolumeclaims")) as cluster:
        monkeypatch.setattr(KUBECONFIG, str(write_kubeconfig(tmp_path / "config", cluster.url)))
        yield cluster


def _read(api: KfpApi, kubeflow: Kubeflow, name: str) -> Status:
    return status(kubeflow, replay(api, name, families=FAMILIES.get(name)))


def _rows(now: Status) -> dict[str, list[str]]:
    """Return title to the words of its line, as the command prints it."""
    width = max(len(one.title) for one in now.steps)
    lines = [line for line in status_lines(now) if line.startswith("  ")]
    return {line[2 : 2 + width].strip(): line[2 + width :].split() for line in lines}


@pytest.mark.parametrize("name", RUNS)
def test_of_a_run_that_ended_nothing_runs(api: KfpApi, kubeflow: Kubeflow, name: str) -> None:
    now = _read(api, kubeflow, name)
    assert now.finished
    assert {one.progress.state for one in now.steps} <= set(ENDED)
    assert all(one.progress.seconds is None or one.progress.seconds >= 0 for one in now.steps)
    text = "\n".join(status_lines(now))
    assert not any(word in text for word in ("executor", "iteration", "driver", "(0)", "for-loop", "running"))
    families = FAMILIES.get(name, ["vae", "coupling_flow"])
    expected = ["preprocess", *(f"{step} [{one}]" for step in ("tune", "train", "generate") for one in families)]
    assert list(_rows(now)) == [*expected, "validate", "compare", "export", "deploy", "notify"]


def test_a_list_that_stopped_knows_no_times(api: KfpApi, kubeflow: Kubeflow) -> None:
    rows = _rows(_read(api, kubeflow, "run_succeeded_tasks_stale"))
    assert rows["train [coupling_flow]"] == ["succeeded", "1:52"]
    assert rows["export"] == rows["deploy"] == rows["notify"] == ["succeeded"]


def test_the_pods_know_them(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    replay_pods(cluster, "pods_succeeded_tasks_stale")
    now = _read(api, kubeflow, "run_succeeded_tasks_stale")
    rows = _rows(now)
    assert rows["train [coupling_flow]"] == ["succeeded", "1:52"]
    # Their containers ran from 1:23:08 to 1:23:15 and so on; the list ends before.
    assert all(rows[title][0] == "succeeded" and len(rows[title]) == 2 for title in ("export", "deploy", "notify"))
    assert not now.notes


def test_five_families(api: KfpApi, kubeflow: Kubeflow) -> None:
    rows = _rows(_read(api, kubeflow, "run_five_families_tasks_stale"))
    assert rows["tune [tree]"] == ["succeeded", "0:10"]
    assert rows["train [tree]"] == ["succeeded"]


def test_cached_steps(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    without = _rows(_read(api, kubeflow, "run_cached_deployed"))
    assert {title for title, words in without.items() if words != ["cached"]} == {"deploy", "notify"}
    assert without["deploy"] == ["succeeded", "0:36"]
    replay_pods(cluster, "pods_cached_deployed")
    assert _rows(_read(api, kubeflow, "run_cached_deployed")) == without


def test_a_lost_pod_is_another_attempt(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    """Argo gave the pod's node to the next pod, and one time of the list is of the year 1."""
    replay_pods(cluster, "pods_lost_pod")
    rows = _rows(_read(api, kubeflow, "run_lost_pod"))
    assert rows["train [vae]"] == ["succeeded", "2:20", "attempt", "2"]
    assert [title for title, words in rows.items() if "attempt" in words] == ["train [vae]"]


def test_a_train_job(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    replay_pods(cluster, "pods_trainjob")
    rows = _rows(_read(api, kubeflow, "run_trainjob"))
    assert rows["preprocess"] == ["cached"]
    assert rows["train [vae]"] == ["succeeded", "1:13"]


def test_data_that_is_not_there(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    """Recorded before the step wrote a message; what its log said then is in the facts."""
    assert end_line(_read(api, kubeflow, "run_data_missing")).endswith("which would say why, cannot be read")
    pods = replay_pods(cluster, "pods_data_missing")
    assert end_line(_read(api, kubeflow, "run_data_missing")) == "run 'baddata' failed: preprocess: exit code 1"
    api.logs["caloforge-65676-318274470"] = (
        "I1126 01:41:39.000001      13 launcher_v2.go:184] input ComponentSpec:{\n"
        "Traceback (most recent call last):\n"
        "caloforge.errors.InputError: s3://data/nothing.hdf5: nothing is there\n"
        "F1126 01:41:41.000001      13 main.go:58] failed to execute component: exit status 1\n"
    )
    missing = "run 'baddata' failed: preprocess: s3://data/nothing.hdf5: nothing is there"
    assert end_line(_read(api, kubeflow, "run_data_missing")) == missing
    api.logs.clear()
    [failed] = [pod for pod in pods if pod["status"]["phase"] == "Failed"]
    ended = next(one for one in failed["status"]["containerStatuses"] if one["name"] == "main")
    ended["state"]["terminated"]["message"] = "s3://data/nothing.hdf5: nothing is there"
    now = _read(api, kubeflow, "run_data_missing")
    assert end_line(now) == missing
    assert _rows(now)["notify"] == ["succeeded", "0:10"]


def test_an_image_that_cannot_be_pulled(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    """The user terminated the run; the step's pod is gone, that of the last step waits for the same image."""
    replay_pods(cluster, "pods_image_missing")
    now = _read(api, kubeflow, "run_image_missing")
    assert now.state == "terminated"
    assert _rows(now)["preprocess"] == ["terminated", "2:18"]
    assert end_line(now) == (
        "run 'badimage' was terminated (notify: the image registry.example.org/caloforge:9.9.9 cannot be pulled)"
    )


def test_an_image_is_named_while_the_run_waits_for_it(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi) -> None:
    replay_pods(cluster, "pods_image_missing")
    run = recorded("run_image_missing")
    run.update(state="RUNNING", state_history=[])
    tasks = [one for one in run["run_details"]["task_details"] if not one["display_name"].startswith("notify")]
    run["run_details"]["task_details"] = [one for one in tasks if one.get("state") != "FAILED"]
    identifier = replay(api, "run_image_missing")
    api.objects["runs"] = [run]
    now = status(kubeflow, identifier)
    assert now.state == "running"
    notify = next(one.progress for one in now.steps if one.title == "notify")
    assert (notify.state, notify.cause) == (
        "pending", "the image registry.example.org/caloforge:9.9.9 cannot be pulled",
    )  # fmt: skip


@pytest.mark.parametrize("pods", [False, True])
def test_a_terminated_run(api: KfpApi, kubeflow: Kubeflow, cluster: KubernetesApi, *, pods: bool) -> None:
    if pods:
        replay_pods(cluster, "pods_terminated")
    now = _read(api, kubeflow, "run_terminated")
    assert status_lines(now)[0] == "cancel: terminated"
    rows = _rows(now)
    assert rows["tune [vae]"] == ["terminated", "1:15"]
    assert rows["train [vae]"] == ["not", "run"]
    assert end_line(now) == "run 'cancel' was terminated"
