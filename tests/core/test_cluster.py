from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes.client import ApiException
from kubernetes_api import KubernetesApi, connected, running

from caloforge.cluster import TRAIN_JOB, Cluster, connect
from caloforge.errors import InputError

JOB = {"apiVersion": TRAIN_JOB.api_version, "kind": "TrainJob", "metadata": {"name": "job"}, "spec": {"nodes": 1}}


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with running(KubernetesApi("trainjobs")) as api:
        yield api


@pytest.fixture
def cluster(api: KubernetesApi) -> Iterator[Cluster]:
    with connected(api) as cluster:
        yield cluster


def test_an_object_from_beginning_to_end(cluster: Cluster) -> None:
    cluster.create(TRAIN_JOB, JOB)
    assert cluster.get(TRAIN_JOB, "job")["spec"] == {"nodes": 1}
    assert cluster.patch(TRAIN_JOB, "job", {"spec": {"nodes": None, "workers": 2}})["spec"] == {"workers": 2}
    assert [item["metadata"]["name"] for item in cluster.find(TRAIN_JOB)] == ["job"]
    assert cluster.find(TRAIN_JOB, selector="a=b") == []
    cluster.delete(TRAIN_JOB, "job")
    assert cluster.find(TRAIN_JOB) == []
    cluster.delete(TRAIN_JOB, "job")


def test_a_lost_answer(api: KubernetesApi, cluster: Cluster) -> None:
    api.script = ["lost"]
    cluster.create(TRAIN_JOB, JOB)
    assert len(api.of("trainjobs")) == 1


def test_delete_says_what_hinders(api: KubernetesApi, cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    api.script = [403]
    cluster.delete(TRAIN_JOB, "job")
    assert "kubectl delete trainjobs.trainer.kubeflow.org job --namespace default" in caplog.text


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('trainjobs.trainer.kubeflow.org is forbidden: User "me" cannot create resource', "apply manifests/rbac"),
        (
            'trainjobs.trainer.kubeflow.org "job" is forbidden: exceeded quota: caloforge, used: 5',
            "exceeded quota: calo",
        ),
        ('admission webhook "validator" denied the request: unable to convert', "denied the request: unable to"),
    ],
)
def test_what_is_forbidden_for_another_reason_than_rights(
    said: str, told: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        error = ApiException(403, "Forbidden")
        error.body = json.dumps({"message": said})
        raise error

    monkeypatch.setattr(cluster._objects, "create_namespaced_custom_object", refuse)
    with pytest.raises(InputError, match=told):
        cluster.create(TRAIN_JOB, JOB)


def test_events(api: KubernetesApi, cluster: Cluster) -> None:
    for name in ("job-0", "other"):
        event = {
            "metadata": {"name": f"{name}.1"},
            "involvedObject": {"kind": "Pod", "name": name},
            "reason": "FailedScheduling",
            "message": "no GPU",
            "lastTimestamp": "2025-01-01T00:00:00Z",
        }
        api.add("events", event)
    assert cluster.events("job") == ["Pod job-0: FailedScheduling: no GPU"]
    api.script = [403]
    assert cluster.events("job") == []


def test_connect(api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    config = {
        "current-context": "near",
        "clusters": [{"name": "here", "cluster": {"server": api.url}}],
        "users": [{"name": "me", "user": {"token": "abc"}}],
        "contexts": [
            {"name": "near", "context": {"cluster": "here", "user": "me"}},
            {"name": "far", "context": {"cluster": "here", "user": "me", "namespace": "team"}},
        ],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    assert connect().namespace == "default"
    assert connect(context="far").namespace == "team"
    assert connect("mine", context="far").namespace == "mine"
    assert connect().find(TRAIN_JOB) == []
    assert api.requests[-1][2]["authorization"] == "Bearer abc"
    with pytest.raises(InputError, match="no cluster"):
        connect(context="none")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(InputError, match="local backend"):
        connect()


def test_something_else_answers(api: KubernetesApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "answer", lambda *_: (200, "<html>log in</html>"))
    with pytest.raises(InputError, match="not as a Kubernetes API server"):
        cluster.find(TRAIN_JOB)
