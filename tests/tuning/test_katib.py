"""Katib's side is played by a controller on a local API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from katib import Katib
from kubernetes_api import KubernetesApi, assert_granted, connected, running
from recorded_objects import recorded, shape
from stopping import stop_while_waiting

from caloforge.cluster import EXPERIMENT, Cluster, Refused
from caloforge.components.image import IMAGE
from caloforge.errors import InputError
from caloforge.tuning.experiment import OWN_FAULTS, TrialPod
from caloforge.tuning.katib import run_on_katib

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


def test_success(api: KubernetesApi, katib: Katib, cluster: Cluster, toy: Toy) -> None:
    api.add("trials", {"metadata": {"name": "another", "labels": {"katib.kubeflow.org/experiment": "other"}}})
    katib.metrics = ["0.75", "0.25"]
    tuning = run_on_katib(toy(), cluster)
    assert [trial.metrics for trial in tuning.trials] == [{"fpd": 0.75}, {"fpd": 0.25}, {"fpd": 0.5}, {"fpd": 0.5}]
    assert tuning.best is tuning.trials[1], "the latest value, as metricStrategies say"
    assert tuning.best.parameters == {"training.learning_rate": 2e-4, "training.batch_size": 16}
    assert tuning.best.seconds == 90
    assert tuning.overrides() == {"training": {"learning_rate": 2e-4, "batch_size": 16}}
    assert (tuning.ended, tuning.given_again) == ("", 0)
    assert not api.of("experiments"), "nothing stays"


def test_the_fake_is_like_katib(api: KubernetesApi, katib: Katib, cluster: Cluster, toy: Toy) -> None:
    """What it answers has the shape of what a cluster answered, and leaves out nothing of it."""
    seen: dict[str, set[str]] = {"experiment": set(), "trials": set()}
    reconcile = katib.reconcile

    def look(experiment: dict[str, Any]) -> None:
        reconcile(experiment)
        seen["experiment"] |= set(shape(experiment))
        seen["trials"] |= {path for trial in api.of("trials") for path in shape(trial)}

    api.controllers["experiments"] = look
    run_on_katib(toy(), cluster)
    for kind, paths in seen.items():
        real = {path for when in ("first", "last") for item in recorded(f"{kind}_{when}") for path in shape(item)}
        assert paths <= real | {"metadata.annotations"}
        assert {path for path in real - paths if path.startswith("status")} == set()


def test_what_a_cluster_answered(api: KubernetesApi, katib: Katib, cluster: Cluster, toy: Toy) -> None:
    """Replays a search at its first and its last look, and lets it end then."""
    (first,), (last,) = recorded("experiment_first"), recorded("experiment_last")
    statuses = [first["status"], last["status"], {**last["status"], "trials": 4}]
    statuses[-1]["conditions"] = [
        *last["status"]["conditions"],
        {"type": "Succeeded", "status": "True", "reason": "ExperimentGoalReached", "message": ""},
    ]
    for trial in recorded("trials_last"):
        trial["metadata"]["labels"]["katib.kubeflow.org/experiment"] = "toy"
        api.add("trials", trial)
    api.controllers["experiments"] = lambda experiment: experiment.update(
        status=statuses.pop(0) if len(statuses) > 1 else statuses[0]
    )
    tuning = run_on_katib(toy(), cluster)
    assert [trial.metrics["fpd"] for trial in tuning.ranked] == [25.0664, 28.7166, 29.7377], "the fourth still ran"
    assert tuning.best is not None
    assert tuning.best.parameters["model.network.width"] == 192
    assert tuning.best.seconds == 60


@pytest.mark.parametrize(
    "script", [[429, 500], ["none", 503, "reset", 502], ["lost"], ["none", 410], ["none"] * 4 + [504]]
)
def test_a_shaky_server(script: list[int | str], api: KubernetesApi, cluster: Cluster, toy: Toy) -> None:
    api.script = list(script)
    assert len(run_on_katib(toy(), cluster).ranked) == 4
    assert not api.of("experiments")


@pytest.mark.parametrize("requests", [0, 1, 2, 3, 5, 8, 12])
def test_a_server_that_is_away_for_a_minute(
    requests: int, api: KubernetesApi, cluster: Cluster, toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    """Its port is closed, whatever we wait for; a minute is 0.3 s here, and patience 5 minutes 1.5 s."""
    cluster.patience = 1.5
    api.away_at, api.away_seconds = requests, 0.3
    tuning = run_on_katib(toy(), cluster)
    assert api.came_back.is_set(), "it was away"
    assert "Connection refused" in caplog.text
    assert len(tuning.ranked) == 4
    assert not tuning.ended
    assert not api.of("experiments")


def test_trials_that_such_a_minute_cost_are_given_again(
    api: KubernetesApi, katib: Katib, cluster: Cluster, toy: Toy
) -> None:
    """All that ran are lost at once, more often than may fail by themselves, and the last ones of all, too."""
    katib.fates = ["lost", "lost", "Succeeded", "Succeeded", "Succeeded", "lost"]
    tuning = run_on_katib(toy(), cluster)
    assert tuning.given_again == 3
    assert len(tuning.ranked) == 4
    assert [trial.state for trial in tuning.trials].count("failed") == 3
    assert not tuning.ended
    assert "3 lost trials were given again" in tuning.summary()
    assert not api.of("experiments")


@pytest.mark.parametrize(("trials", "parallel"), [(1, 1), (4, 4), (20, 4)])
def test_no_bound_is_reached_by_what_runs_at_a_time(
    trials: int, parallel: int, katib: Katib, cluster: Cluster, toy: Toy
) -> None:
    katib.fates = ["lost"] * parallel
    tuning = run_on_katib(toy(trials=trials, parallel=parallel, max_failed=1), cluster)
    assert (len(tuning.ranked), tuning.given_again) == (trials, parallel)


def test_what_is_always_lost_is_not_given_for_ever(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.fates = ["lost"] * 100
    tuning = run_on_katib(toy(trials=3, parallel=3), cluster)
    assert (len(tuning.trials), tuning.given_again, tuning.best) == (6, 3, None)


def test_what_failed_by_itself_is_not_given_again(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.fates = ["own fault", "MetricsUnavailable"]
    tuning = run_on_katib(toy(), cluster)
    assert (len(tuning.ranked), tuning.given_again) == (2, 0)
    assert "exit code 1 matching FailJob rule" in tuning.trials[0].cause
    assert tuning.trials[1].state == "failed"


@pytest.mark.parametrize("code", OWN_FAULTS)
def test_an_old_cluster_has_no_policy_and_the_exit_code_tells(
    code: int, katib: Katib, cluster: Cluster, toy: Toy
) -> None:
    katib.fates = ["lost"]
    katib.api.add("pods", dead_pod(code))
    tuning = run_on_katib(toy(), cluster)
    assert tuning.given_again == 0
    assert f"exit code {code}" in tuning.trials[0].cause


@pytest.mark.parametrize("fault", [403, 400])
def test_a_role_that_may_not_change_experiments(
    fault: int, katib: Katib, cluster: Cluster, toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> dict[str, Any]:
        raise Refused("cannot change it", fault)

    cluster.patch = refuse  # type: ignore[method-assign]
    katib.fates = ["lost"]
    assert len(run_on_katib(toy(), cluster).ranked) == 3
    assert caplog.text.count("trials that were lost are not given again") == 1


def test_a_second_attempt_goes_on_counting(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    """The first attempt was killed after it had asked for more trials."""
    cluster.create(EXPERIMENT, toy())
    katib.fates = ["lost", "lost"]
    while katib.api.of("experiments")[0].get("status", {}).get("trialsFailed", 0) < 2:
        cluster.get(EXPERIMENT, "toy")
    cluster.patch(EXPERIMENT, "toy", {"spec": {"maxTrialCount": 6}})
    tuning = run_on_katib(toy(), cluster)
    assert (len(tuning.ranked), tuning.given_again) == (4, 2)


def test_a_server_that_stays_away(
    api: KubernetesApi, cluster: Cluster, toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    """The search has nothing then, and says what to delete."""
    cluster.patience = 0.1
    for answered in (0, 1):
        api.script = [*["none"] * answered, *[503] * 1000]
        tuning = run_on_katib(toy(), cluster)
        assert tuning.best is None
        assert "not answered for 0.1 s: 503" in tuning.ended
    assert "do it yourself: kubectl delete experiments.kubeflow.org toy" in caplog.text


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


def test_a_failed_experiment_gives_the_best_of_what_it_has(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.fates = ["Succeeded", *["own fault"] * 9]
    tuning = run_on_katib(toy(trials=9), cluster)
    assert tuning.ended == "ExperimentFailed: Experiment has failed because max failed count has reached"
    assert [trial.metrics for trial in tuning.ranked] == [{"fpd": 0.25}]
    assert tuning.summary().endswith(tuning.ended)
    assert not katib.api.of("experiments")


def test_no_metric(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.metrics = [None] * 4
    tuning = run_on_katib(toy(), cluster)
    assert tuning.best is None
    assert "metrics-collector-injection" in tuning.ended


def test_an_unavailable_metric(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.metrics = ["unavailable"]
    assert [trial.state for trial in run_on_katib(toy(trials=2), cluster).trials] == ["failed", "succeeded"]


def test_timeout(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.fates = ["hangs"] * 4
    tuning = run_on_katib(toy(), cluster, timeout=0.1)
    assert tuning.best is None
    assert "not done after 0.1 s (trials: 0 succeeded, 0 failed, 2 running)" in tuning.ended
    assert not katib.api.of("experiments")


def test_a_timeout_with_something_in_hand(katib: Katib, cluster: Cluster, toy: Toy) -> None:
    katib.fates = ["Succeeded", "hangs", "hangs"]
    tuning = run_on_katib(toy(), cluster, timeout=0.3)
    assert [trial.metrics for trial in tuning.ranked] == [{"fpd": 0.25}]
    assert "not done after 0.3 s" in tuning.ended
    assert not katib.api.of("experiments")


def dead_pod(code: int, *, reason: str = "Error", collector: int = 255, trial: str = "toy-0") -> dict[str, Any]:
    """Return the pod of a trial whose two containers have ended."""
    ends = {"trial": (code, reason), "metrics-logger-and-collector": (collector, "Error")}
    return {
        "metadata": {
            "name": f"{trial}-abcde",
            "labels": {"katib.kubeflow.org/experiment": "toy", "batch.kubernetes.io/job-name": trial},
        },
        "spec": {"containers": [{"name": "trial", "resources": {"limits": {"memory": "3Gi"}}}]},
        "status": {
            "containerStatuses": [
                {
                    "name": name, "image": "i", "imageID": "i", "ready": False, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code, "reason": reason}},
                }
                for name, (code, reason) in reversed(ends.items())
            ]
        },
    }  # fmt: skip


def test_how_a_trial_died(katib: Katib, cluster: Cluster, toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    """Katib removes the pods of a trial that is over: they are asked in time."""
    katib.api.add("pods", dead_pod(137, reason="OOMKilled"))
    katib.fates = ["own fault"]
    tuning = run_on_katib(toy(), cluster)
    assert tuning.trials[0].cause == "OOMKilled: memory is 3Gi"
    assert caplog.text.count("pod toy-0-abcde: OOMKilled: memory is 3Gi") == 1, "said once, as soon as it is seen"
    katib.api.script = ["none", "none", 403]
    assert run_on_katib(toy(), cluster).ranked, "pods that may not be read are no obstacle"


def test_a_trial_whose_pod_is_lost(katib: Katib, cluster: Cluster, toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    """Its Job makes another, and the trial goes on."""
    katib.api.add("pods", dead_pod(143, collector=143))
    tuning = run_on_katib(toy(), cluster)
    assert len(tuning.ranked) == 4
    assert "pod toy-0-abcde: exit code 143; its Job may try again" in caplog.text


def test_a_collector_that_gave_up(katib: Katib, cluster: Cluster, toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    katib.api.add("pods", dead_pod(0, reason="Completed"))
    assert len(run_on_katib(toy(), cluster).ranked) == 4
    assert "Katib's metrics-logger-and-collector ended with exit code 255; its Job may try again" in caplog.text


def test_a_second_attempt_waits_for_the_first_ones(api: KubernetesApi, cluster: Cluster, toy: Toy) -> None:
    """The first attempt was killed before it could delete its experiment."""
    cluster.delete = lambda *_: None  # type: ignore[method-assign]
    run_on_katib(toy(), cluster)
    (first,) = api.of("experiments")
    assert run_on_katib(toy(), cluster).ranked, "found by its label"
    assert [one["metadata"]["uid"] for one in api.of("experiments")] == [first["metadata"]["uid"]]
    with pytest.raises(InputError, match=r"kubectl delete experiments\.kubeflow\.org toy --namespace default"):
        run_on_katib(toy(seed=2), cluster)


def test_a_failure_that_nobody_cleaned_up_is_no_reason_to_fail(
    api: KubernetesApi, katib: Katib, cluster: Cluster, toy: Toy
) -> None:
    katib.fates, keep = ["own fault"] * 9, cluster.delete
    cluster.delete = lambda *_: False  # type: ignore[method-assign]
    assert run_on_katib(toy(trials=9), cluster).best is None
    cluster.delete = keep  # type: ignore[method-assign]
    for trial in api.of("trials"):
        del api.objects["trials", "default", trial["metadata"]["name"]]
    katib.fates = []
    assert run_on_katib(toy(trials=9), cluster).ranked


RUN = "from caloforge.tuning.katib import run_on_katib\nrun_on_katib(body, cluster)\n"


def test_sigterm_deletes_the_experiment(api: KubernetesApi, katib: Katib, toy: Toy, tmp_path: Path) -> None:
    katib.fates = ["hangs"] * 4
    code, output = stop_while_waiting(RUN, toy(), api, lambda: len(api.requests) > 6, tmp_path)
    assert code == 143, output
    assert not api.of("experiments")


@pytest.mark.parametrize("answered", [0, 1, 4])
def test_sigterm_while_the_server_is_away(
    answered: int, api: KubernetesApi, katib: Katib, toy: Toy, tmp_path: Path
) -> None:
    """What was made is deleted as soon as the server is there again."""
    katib.fates = ["hangs"] * 4
    api.away_at, api.away_seconds = answered, 2.0
    code, output = stop_while_waiting(RUN, toy(), api, lambda: api.away_at is None, tmp_path)
    assert code == 143, output
    assert "trying again" in output
    assert not api.of("experiments")


def test_sigterm_when_nobody_knows_whether_it_was_made(
    api: KubernetesApi, katib: Katib, toy: Toy, tmp_path: Path
) -> None:
    """The answer to the request was lost, and the server is away."""
    api.script = ["lost"]
    api.away_at, api.away_seconds = 1, 2.0
    code, output = stop_while_waiting(RUN, toy(), api, lambda: api.away_at is None, tmp_path)
    assert code == 143, output
    assert [method for method, _, _ in api.requests] == ["POST", "GET", "DELETE"]
    assert not api.of("experiments")


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
