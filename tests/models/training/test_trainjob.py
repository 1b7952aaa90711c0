"""Kubeflow Trainer's side is played by a controller on a local API server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from kubernetes_api import KubernetesApi, assert_granted, connected, running
from recorded_objects import recorded, shape
from stopping import stop_while_waiting

from caloforge.cluster import TRAIN_JOB, Cluster, ClusterError
from caloforge.components.image import IMAGE
from caloforge.errors import InputError
from caloforge.models.training.pod import TrainingPod
from caloforge.models.training.trainjob import INDEX, build_train_job, run_train_job
from caloforge.models.training.worker import TrainingFailed
from caloforge.pods import SecretKey, Toleration

NAME = "train-vae-0123456789"
COMMAND = ["python", "-m", "caloforge", "train"]
LOG = """\
2026-01-01T00:00:00.5Z 12:00:00  train vae: started
2026-01-01T00:00:00.52Z rubbish of a library
2026-01-01T00:00:01Z 12:00:01  WARNING: vae voxels: half done
"""
AGAIN = """\
2026-01-01T00:05:00Z 12:05:00  vae: goes on from a checkpoint
"""
RICH = TrainingPod(
    gpus=2, node_selector={"gpu": "h100"}, tolerations=(Toleration(key="gpu", effect="NoSchedule", seconds=None),),
    env={"NCCL_DEBUG": "WARN"}, secret_env={"AWS_ACCESS_KEY_ID": SecretKey(secret="s3", key="id")},
    secret_volumes={"krb5": "/krb5"}, claims={"work": "/mnt/shared"}, labels={"eos": "yes"}, annotations={"a": "b"},
    image_pull_secrets=("registry",), service_account="trainer", runtime="my-runtime",
)  # fmt: skip


def make(pod: TrainingPod | None = None, **changes: Any) -> dict[str, Any]:
    return build_train_job(NAME, COMMAND, **{"nodes": 2, "processes": 2, **changes}, pod=pod or TrainingPod())


class Trainer:
    """Starts the pods of any TrainJob at the second look; the fourth finds it over.

    Attributes:
        lost_at: at which look the second pod is lost: JobSet starts all pods anew, and the end comes later.
    """

    def __init__(self, api: KubernetesApi) -> None:
        self.api, self.outcome, self.looks = api, "Complete", 0
        self.lost_at = 0
        self.last = 4
        self.known = {"runtimePatches"}
        api.controllers["trainjobs"] = self.reconcile
        api.admission["trainjobs"] = self.admit

    def admit(self, job: dict[str, Any]) -> None:
        for field in {"runtimePatches", "podTemplateOverrides"} - self.known:
            del job["spec"][field]
        job["spec"]["suspend"] = False
        job["spec"]["managedBy"] = "trainer.kubeflow.org/trainjob-controller"

    def reconcile(self, job: dict[str, Any]) -> None:
        self.looks += 1
        if self.looks == 2:
            self.start(job, attempt=0)
        if self.looks == self.lost_at:
            for key in [key for key in self.api.objects if key[0] == "pods"]:
                del self.api.objects[key]
            self.start(job, attempt=1)
        over = self.looks >= self.last and self.outcome != "never"
        counts = {"name": "node", "active": 1, "ready": 0, "succeeded": 0, "failed": 0, "suspended": 0}
        if over:
            counts |= {"active": 0, "succeeded": 1} if self.outcome == "Complete" else {"active": 0, "failed": 1}
        job["status"] = {"jobsStatus": [counts]}
        if over:
            job["status"]["conditions"] = [
                {
                    "type": self.outcome, "status": "True", "reason": "Because", "message": "of this",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ]  # fmt: skip

    def start(self, job: dict[str, Any], *, attempt: int) -> None:
        """Start the pods, as JobSet does."""
        name = job["metadata"]["name"]
        for index in range(job["spec"]["trainer"]["numNodes"]):
            labels = {
                "jobset.sigs.k8s.io/jobset-name": name,
                "jobset.sigs.k8s.io/replicatedjob-name": "node",
                "jobset.sigs.k8s.io/restart-attempt": str(attempt),
                "batch.kubernetes.io/job-completion-index": str(index),
            }
            pod = f"{name}-node-0-{index}-{'abcde' if attempt == 0 else 'fghij'}"
            self.api.add("pods", {"metadata": {"name": pod, "labels": labels}})
            self.api.logs[pod] = LOG if index == 0 else "2026-01-01T00:00:00Z 12:00:00  not this one\n"
            if attempt and index == 0:
                self.api.logs[pod] = AGAIN


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with running(KubernetesApi("trainjobs")) as api:
        yield api
    assert_granted(api)


@pytest.fixture
def trainer(api: KubernetesApi) -> Trainer:
    return Trainer(api)


@pytest.fixture
def cluster(api: KubernetesApi, trainer: Trainer) -> Iterator[Cluster]:
    with connected(api) as cluster:
        yield cluster


@pytest.mark.parametrize("pod", [TrainingPod(), RICH])
def test_trainer_understands_all_of_it(pod: TrainingPod) -> None:
    """The official models drop what they do not know and refuse wrong types."""
    job = make(pod)
    assert job["spec"].pop("podTemplateOverrides"), "only Trainer 2.1 knows it"
    assert TrainerV1alpha1TrainJob.from_dict(job).to_dict() == job


def test_pods_have_what_was_asked_for() -> None:
    spec = make(RICH)["spec"]
    assert spec["runtimeRef"] == {"name": "my-runtime"}
    trainer = spec["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["command"]) == (2, 2, COMMAND)
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"name": "NCCL_DEBUG", "value": "WARN"} in trainer["env"]
    (override,) = spec["podTemplateOverrides"]
    (patch,) = spec["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert node["template"]["spec"]["template"] == {key: override[key] for key in ("metadata", "spec")}
    assert override["metadata"]["labels"] == {"eos": "yes", "sidecar.istio.io/inject": "false"}
    pod = override["spec"]
    assert pod["serviceAccountName"] == "trainer"
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (container,) = pod["containers"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/mnt/shared", "/krb5", "/dev/shm", "/tmp"}
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


def test_processes_share_the_cores_that_a_pod_may_use() -> None:
    limited = make(TrainingPod(cpu_limit="8"), processes=4)["spec"]["trainer"]
    assert limited["env"] == [{"name": "OMP_NUM_THREADS", "value": "2"}]
    assert limited["resourcesPerNode"]["limits"]["cpu"] == "8"
    assert "env" not in make()["spec"]["trainer"]


def test_pods_run_the_image_of_the_components() -> None:
    assert make()["spec"]["trainer"]["image"] == IMAGE


@pytest.mark.parametrize(
    ("pod", "changes", "message"),
    [
        (TrainingPod(env={"PET_NNODES": "3"}), {}, "PET_NNODES: Trainer itself sets this"),
        (TrainingPod(gpus=1), {}, "2 processes for each node, but only 1 GPUs"),
    ],
)
def test_what_trainer_would_refuse(pod: TrainingPod, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(pod, **changes)
    with pytest.raises(InputError, match="not a name for it"):
        build_train_job("Train_VAE", COMMAND, nodes=1, processes=1, pod=TrainingPod())


@pytest.mark.parametrize("known", ["runtimePatches", "podTemplateOverrides"])
def test_success(
    known: str, api: KubernetesApi, trainer: Trainer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    trainer.known = {known}
    with caplog.at_level(logging.INFO):
        run_train_job(make(), cluster)
    shown = [(record.levelname, record.message) for record in caplog.records]
    assert shown.count(("INFO", "train vae: started")) == 1, "a line is shown once, however often it is read"
    assert ("WARNING", "vae voxels: half done") in shown
    assert "rubbish" not in caplog.text
    assert "not this one" not in caplog.text
    assert f"{NAME}: 1 active" in caplog.messages
    assert not api.of("trainjobs")


SHAKY: list[list[int | str]] = [
    [429, 500], ["lost"], ["none", 410, "reset", 502], ["none", "none", 403, "reset", 500], ["none"] * 6 + ["reset", 503],
]  # fmt: skip


@pytest.mark.parametrize("script", SHAKY)
def test_a_shaky_server(script: list[int | str], api: KubernetesApi, cluster: Cluster) -> None:
    api.script = list(script)
    run_train_job(make(), cluster)
    assert not api.of("trainjobs")


@pytest.mark.parametrize("requests", [0, 1, 2, 3, 6])
def test_a_server_that_is_away_for_a_minute(
    requests: int, api: KubernetesApi, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Its port is closed, whatever we wait for; a minute is 0.3 s here, and patience 5 minutes 1.5 s."""
    cluster.patience = 1.5
    api.away_at, api.away_seconds = requests, 0.3
    run_train_job(make(), cluster)
    assert api.came_back.is_set(), "it was away"
    assert not api.of("trainjobs")


def test_a_lost_pod(api: KubernetesApi, trainer: Trainer, cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The second pod is lost: JobSet starts all anew, and the log goes on with the new first one."""
    trainer.lost_at, trainer.last = 5, 8
    with caplog.at_level(logging.INFO):
        run_train_job(make(), cluster)
    assert caplog.messages.count("train vae: started") == 1
    assert caplog.messages.count("vae: goes on from a checkpoint") == 1
    assert not api.of("trainjobs")


def test_the_fake_is_like_trainer(api: KubernetesApi, trainer: Trainer, cluster: Cluster) -> None:
    """What it answers has the shape of what a cluster answered, and leaves out nothing of its status."""
    seen: set[str] = set()
    reconcile = trainer.reconcile

    def look(job: dict[str, Any]) -> None:
        reconcile(job)
        seen.update(shape(job))

    api.controllers["trainjobs"] = look
    run_train_job(make(), cluster)
    real = {path for when in ("first", "last") for (item,) in [recorded(f"trainjob_{when}")] for path in shape(item)}
    assert {path for path in seen if path.startswith("status")} == {path for path in real if path.startswith("status")}
    labels = {key for pod in recorded("trainjob_pods_first") for key in pod["metadata"]["labels"]}
    assert {key for pod in api.of("pods") for key in pod["metadata"]["labels"]} <= labels


def test_what_a_cluster_answered(
    api: KubernetesApi, trainer: Trainer, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Replays a training on two pods at its first and its last look."""
    statuses = [item["status"] for when in ("first", "last") for item in recorded(f"trainjob_{when}")]
    for pod in recorded("trainjob_pods_first"):
        pod["metadata"]["labels"]["jobset.sigs.k8s.io/jobset-name"] = NAME
        api.add("pods", pod)
        first = pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "0"
        api.logs[pod["metadata"]["name"]] = LOG if first else "2026-01-01T00:00:00Z 12:00:00  not this one\n"
    api.controllers["trainjobs"] = lambda job: job.update(status=statuses.pop(0) if len(statuses) > 1 else statuses[0])
    with caplog.at_level(logging.INFO):
        run_train_job(make(), cluster)
    assert "train vae: started" in caplog.messages
    assert "not this one" not in caplog.text
    assert f"{NAME}: 1 active, 1 ready" in caplog.messages


RUN = "from caloforge.models.training.trainjob import run_train_job\nrun_train_job(body, cluster)\n"


@pytest.mark.parametrize("away_at", [None, 0, 1, 5])
def test_sigterm(away_at: int | None, api: KubernetesApi, trainer: Trainer, tmp_path: Path) -> None:
    """The TrainJob is deleted, if need be as soon as the server is there again."""
    trainer.outcome = "never"
    api.away_at, api.away_seconds = away_at, 2.0

    def waits() -> bool:
        return api.away_at is None if away_at is not None else len(api.requests) > 8

    code, output = stop_while_waiting(RUN, make(), api, waits, tmp_path)
    assert code == 143, output
    assert not api.of("trainjobs")


def test_a_server_that_stays_away(api: KubernetesApi, cluster: Cluster) -> None:
    cluster.patience = 0.1
    api.script = ["none", *[503] * 1000]
    with pytest.raises(ClusterError, match=r"not answered for 0\.1 s: 503"):
        run_train_job(make(), cluster)


@pytest.mark.parametrize(
    ("fault", "message"),
    [(403, "forbidden; apply manifests/rbac"), (401, "log in again"), (404, "Kubeflow Trainer 2 is not installed")],
)
def test_refusals(fault: int, message: str, api: KubernetesApi, cluster: Cluster) -> None:
    for before in ([], ["none"]):
        api.script = [*before, fault]
        with pytest.raises(InputError, match=message):
            run_train_job(make(), cluster)
        assert not api.of("trainjobs")


def test_failure_shows_events_and_the_end_of_the_log(api: KubernetesApi, trainer: Trainer, cluster: Cluster) -> None:
    trainer.outcome = "Failed"
    event = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": f"{NAME}-node-0-1-x"}}
    api.add("events", event | {"reason": "OOMKilling", "message": "no memory", "lastTimestamp": "2026-01-01T00:00:00Z"})
    with pytest.raises(TrainingFailed) as error:
        run_train_job(make(), cluster)
    assert str(error.value).splitlines() == [
        f"TrainJob {NAME} failed: Because: of this",
        f"Pod {NAME}-node-0-1-x: OOMKilling: no memory",
        "its first pod ended with:",
        "12:00:00  train vae: started",
        "rubbish of a library",
        "12:00:01  WARNING: vae voxels: half done",
    ]
    assert not api.of("trainjobs")


@pytest.mark.parametrize("where", ["state", "lastState"])
def test_a_pod_without_memory_is_not_tried_again(
    where: str, api: KubernetesApi, trainer: Trainer, cluster: Cluster
) -> None:
    """The second one, which Kubernetes starts again and again."""
    trainer.outcome = "never"
    labels = {"jobset.sigs.k8s.io/jobset-name": NAME, "jobset.sigs.k8s.io/replicatedjob-name": "node"}
    end = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    pod = {
        "metadata": {"name": f"{NAME}-node-0-1-x", "labels": {**labels, INDEX: "1"}},
        "spec": {"containers": [{"name": "node", "resources": {"limits": {"memory": "3Gi"}}}]},
        "status": {"containerStatuses": [{"name": "node", where: end}]},
    }
    api.add("pods", pod)
    with pytest.raises(TrainingFailed, match=rf"TrainJob {NAME}: pod {NAME}-node-0-1-x: OOMKilled: memory is 3Gi"):
        run_train_job(make(), cluster, timeout=10)
    assert not api.of("trainjobs")


def test_wrong_input_is_not_tried_again(api: KubernetesApi, trainer: Trainer, cluster: Cluster) -> None:
    trainer.outcome = "never"
    labels = {"jobset.sigs.k8s.io/jobset-name": NAME, "jobset.sigs.k8s.io/replicatedjob-name": "node", INDEX: "0"}
    api.add("pods", {"metadata": {"name": "first", "labels": labels, "creationTimestamp": "3000"}})
    api.objects["pods", "default", "first"]["metadata"]["creationTimestamp"] = "3000"  # newer than the controller's
    api.logs["first"] = "2026-01-01T00:00:00Z Error: /data/showers.hdf5: not an HDF5 file\n"
    with pytest.raises(TrainingFailed, match=r"another attempt would end as this one did\n.*: not an HDF5 file"):
        run_train_job(make(), cluster, timeout=10)
    assert not api.of("trainjobs")


def test_timeout(api: KubernetesApi, trainer: Trainer, cluster: Cluster) -> None:
    trainer.outcome = "never"
    with pytest.raises(TrainingFailed, match=r"is not done after 0\.1 s \(1 active\)"):
        run_train_job(make(), cluster, timeout=0.1)
    assert not api.of("trainjobs")


def test_a_trainer_that_cannot_mount_volumes(trainer: Trainer, cluster: Cluster) -> None:
    trainer.known = set()
    with pytest.raises(InputError, match=r"too old.*2\.1 is needed"):
        run_train_job(make(), cluster)
    assert not trainer.api.of("trainjobs")


def test_stopped_from_outside(api: KubernetesApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: float) -> None:
        raise SystemExit(143)

    monkeypatch.setattr("caloforge.cluster.time.sleep", stop)
    with pytest.raises(SystemExit):
        run_train_job(make(), cluster)
    assert not api.of("trainjobs")


def test_a_second_attempt_waits_for_the_first_ones(api: KubernetesApi, trainer: Trainer, cluster: Cluster) -> None:
    """The first attempt was killed before it could delete its TrainJob."""
    cluster.create(TRAIN_JOB, make())
    run_train_job(make(), cluster)
    assert [method for method, _, _ in api.requests].count("POST") == 2, "the second was refused"
    assert not api.of("trainjobs")
    cluster.create(TRAIN_JOB, make(nodes=3))
    with pytest.raises(InputError, match="is there with other content"):
        run_train_job(make(), cluster)
    (kept,) = api.of("trainjobs")
    assert kept["spec"]["trainer"]["numNodes"] == 3, "it is not ours to delete"


def test_what_failed_in_a_first_attempt_begins_anew(api: KubernetesApi, trainer: Trainer, cluster: Cluster) -> None:
    """And it takes a while to go."""
    cluster.create(TRAIN_JOB, make())
    trainer.looks, trainer.outcome = 4, "Failed"
    (failed,) = api.of("trainjobs")
    failed["metadata"]["finalizers"] = ["jobset"]
    cluster.get(TRAIN_JOB, NAME)

    def remove(job: dict[str, Any]) -> None:
        if "deletionTimestamp" in job["metadata"]:
            del api.objects["trainjobs", "default", NAME]
            trainer.looks, trainer.outcome = 0, "Complete"
            api.controllers["trainjobs"] = trainer.reconcile

    api.controllers["trainjobs"] = remove
    run_train_job(make(), cluster)
    assert [method for method, _, _ in api.requests].count("DELETE") == 2
    assert not api.of("trainjobs")
