"""Katib's side is played by a controller on a local API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from katib import Katib
from kubernetes_api import KubernetesApi, assert_granted, connected, running

from caloforge.cluster import Cluster, ClusterError
from caloforge.components.image import IMAGE
from caloforge.errors import InputError
from caloforge.tuning.experiment import TrialPod
from caloforge.tuning.katib import run_on_katib
from caloforge.tuning.objective import TrialFailed

Toy = Callable[..., dict[str, Any]]


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with running(KubernetesApi("experiments", "trials")) as api:
        yield api
    assert_granted(api)


@pytest.fixture
def katib(api: KubernetesApi) -> Katib:
    return Katib(api)


@pytest.fixture
def cluster(api: KubernetesApi, katib: Katib) -> Iterator[Cluster]:
    with connected(api) as cluster:
        yield cluster


def test_success(api: KubernetesApi, cluster: Cluster, toy: Toy) -> None:
    api.add("trials", {"metadata": {"name": "another", "labels": {"katib.kubeflow.org/experiment": "other"}}})
    api.objects["trials", "default", "toy-0"] = {**Katib(api).trial(toy(), 0)}
    api.objects["trials", "default", "toy-1"] = {**Katib(api).trial(toy(), 1)}
    tuning = run_on_katib(toy(), cluster)
    best, other = tuning.ranked
    assert best.metrics == {"fpd": 0.25}, "the latest value, as metricStrategies say"
    assert other.metrics == {"fpd": 0.5}
    assert best.parameters == {"training.learning_rate": 1e-4, "training.batch_size": 16}
    assert best.seconds == 90
    assert tuning.overrides() == {"training": {"learning_rate": 1e-4, "batch_size": 16}}
    assert not api.of("experiments"), "nothing stays"


@pytest.mark.parametrize(
    "script", [[429, 500], ["none", 503, "reset", 502], ["lost"], ["none", 410], ["none"] * 4 + [504]]
)
def test_a_shaky_server(script: list[int | str], api: KubernetesApi, cluster: Cluster, toy: Toy) -> None:
    api.script = list(script)
    assert len(run_on_katib(toy(), cluster).ranked) == 2
    assert not api.of("experiments")


def test_a_server_that_stays_away(api: KubernetesApi, cluster: Cluster, toy: Toy) -> None:
    cluster.patience = 0.1
    api.script = ["none", *[503] * 1000]
    with pytest.raises(ClusterError, match=r"not answered for 0\.1 s: 503"):
        run_on_katib(toy(), cluster)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (403, "forbidden; apply manifests/rbac"),
        (401, "log in again"),
        (404, "Katib is not installed"),
    ],
)
def test_refusals(fault: int, message: str, api: KubernetesApi, cluster: Cluster, toy: Toy) -> None:
    for before in ([], ["none"]):
        api.script = [*before, fault]
        with pytest.raises(InputError, match=message):
            run_on_katib(toy(), cluster)
        assert not api.of("experiments")


def test_failure(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.outcome = "Failed"
    with pytest.raises(TrialFailed, match="Because: of this"):
        run_on_katib(toy(), cluster)
    assert not katib.api.of("experiments")


def test_no_metric(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.metric = None
    with pytest.raises(TrialFailed, match="metrics-collector-injection"):
        run_on_katib(toy(), cluster)


def test_an_unavailable_metric(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.metric = "unavailable"
    assert [trial.state for trial in run_on_katib(toy(), cluster).trials] == ["failed", "succeeded"]


def test_timeout(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.outcome = "never"
    with pytest.raises(TrialFailed, match=r"not done after 0\.1 s"):
        run_on_katib(toy(), cluster, timeout=0.1)
    assert not katib.api.of("experiments")


def test_a_timeout_with_something_in_hand(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.outcome, katib.done = "never", 1
    (best,) = run_on_katib(toy(), cluster, timeout=0.1).ranked
    assert best.metrics == {"fpd": 0.25}
    assert not katib.api.of("experiments")


def test_how_a_trial_died(katib: Katib, cluster: Cluster, toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    """Katib removes the pods of a trial that is over: they are asked in time."""
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    pod = {
        "metadata": {"name": "toy-0-abcde", "labels": {"katib.kubeflow.org/experiment": "toy"}},
        "status": {
            "containerStatuses": [
                {"name": "trial", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": ended}
            ]
        },
    }
    katib.api.add("pods", pod)
    katib.outcome = "Failed"
    told = r"Because: of this; pod toy-0-abcde: OOMKilled \(exit code 137\); give trials more memory"
    with pytest.raises(TrialFailed, match=told):
        run_on_katib(toy(), cluster)
    assert caplog.text.count("WARNING") == 1, "said once, as soon as it is seen"
    katib.outcome = "Succeeded"
    katib.api.script = ["none", "none", 403]
    assert run_on_katib(toy(), cluster).ranked, "pods that may not be read are no obstacle"


def test_a_stop_deletes_the_experiment(
    api: KubernetesApi, cluster: Cluster, toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: float) -> None:
        raise SystemExit(143)

    monkeypatch.setattr("caloforge.cluster.time.sleep", stop)
    with pytest.raises(SystemExit):
        run_on_katib(toy(), cluster)
    assert not api.of("experiments")


def test_a_second_attempt_waits_for_the_first_ones(api: KubernetesApi, cluster: Cluster, toy: Toy) -> None:
    """The first attempt was killed before it could delete its experiment."""
    cluster.delete = lambda *_: None  # type: ignore[method-assign]
    run_on_katib(toy(), cluster)
    (first,) = api.of("experiments")
    assert run_on_katib(toy(), cluster).ranked, "found by its label"
    assert api.of("experiments") == [first]
    with pytest.raises(InputError, match=r"kubectl delete experiments\.kubeflow\.org toy --namespace default"):
        run_on_katib(toy(seed=2), cluster)


def test_a_failure_that_nobody_cleaned_up_is_no_reason_to_fail(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.outcome, keep = "Failed", cluster.delete
    cluster.delete = lambda *_: False  # type: ignore[method-assign]
    with pytest.raises(TrialFailed):
        run_on_katib(toy(), cluster)
    cluster.delete = keep  # type: ignore[method-assign]
    katib.outcome = "Succeeded"
    assert run_on_katib(toy(), cluster).ranked


def test_what_a_shell_would_change(cluster: Cluster, toy: Toy) -> None:
    with pytest.raises(InputError, match="shell"):
        run_on_katib(toy(command=["caloforge", "trial", "--data=/data/my showers.hdf5"]), cluster)


def test_trials_run_in_the_image_of_the_components() -> None:
    assert TrialPod().image == IMAGE


def test_pods_have_what_was_asked_for(toy: Toy) -> None:
    pod = TrialPod(claims={"showers": "/data"}, gpus=2)
    trial = toy(pod=pod)["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]
    (container,) = trial["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"name": "claim-0", "mountPath": "/data"} in container["volumeMounts"]
    assert trial["metadata"]["labels"] == {"sidecar.istio.io/inject": "false"}
