"""Kubeflow Trainer's side is played by a controller on a local API server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from kubernetes_api import KubernetesApi, assert_granted, connected, running

from caloforge.cluster import TRAIN_JOB, Cluster, ClusterError
from caloforge.components.image import IMAGE
from caloforge.errors import InputError
from caloforge.models.training.pod import TrainingPod
from caloforge.models.training.trainjob import build_train_job, run_train_job
from caloforge.models.training.worker import TrainingFailed
from caloforge.pods import SecretKey, Toleration

NAME = "train-vae-0123456789"
COMMAND = ["python", "-m", "caloforge", "train"]
LOG = """\
2026-01-01T00:00:00.5Z 12:00:00  train vae: started
2026-01-01T00:00:00.52Z rubbish of a library
2026-01-01T00:00:01Z 12:00:01  WARNING: vae voxels: half done
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
    """Starts the pods of any TrainJob at the second look; the fourth finds it over."""

    def __init__(self, api: KubernetesApi) -> None:
        self.api, self.outcome, self.looks = api, "Complete", 0
        self.known = {"runtimePatches"}
        api.controllers["trainjobs"] = self.reconcile
        api.admission["trainjobs"] = self.admit

    def admit(self, job: dict[str, Any]) -> None:
        for field in {"runtimePatches", "podTemplateOverrides"} - self.known:
            del job["spec"][field]

    def reconcile(self, job: dict[str, Any]) -> None:
        self.looks += 1
        name = job["metadata"]["name"]
        if self.looks == 2:
            for index in range(job["spec"]["trainer"]["numNodes"]):
                labels = {
                    "jobset.sigs.k8s.io/jobset-name": name,
                    "jobset.sigs.k8s.io/replicatedjob-name": "node",
                    "batch.kubernetes.io/job-completion-index": str(index),
                }
                pod = f"{name}-node-0-{index}-abcde"
                self.api.add("pods", {"metadata": {"name": pod, "labels": labels}})
                self.api.logs[pod] = LOG if index == 0 else "2026-01-01T00:00:00Z 12:00:00  not this one\n"
        over = self.looks >= 4 and self.outcome != "never"
        job["status"] = {
            "jobsStatus": [{"name": "node", "active": 1, "ready": 0, "succeeded": 0, "failed": 0, "suspended": 0}],
            "conditions": [{"type": self.outcome, "status": str(over), "reason": "Because", "message": "of this"}],
        }


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
