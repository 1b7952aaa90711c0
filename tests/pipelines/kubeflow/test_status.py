from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import kfp_api
import pytest
from kfp_api import KfpApi, Object, step_nodes
from kubernetes_api import KubernetesApi
from kubernetes_api import running as cluster_running
from recorded import specification, write_kubeconfig

from caloforge.ending import Ending
from caloforge.pipelines.kubeflow import status as status_module
from caloforge.pipelines.kubeflow.client import Kubeflow, Refused, connect
from caloforge.pipelines.kubeflow.show import status_lines
from caloforge.pipelines.kubeflow.specification import steps_of
from caloforge.pipelines.kubeflow.status import RunError, Status, Watcher, status
from caloforge.pipelines.kubeflow.watch import wait

KUBECONFIG = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
ONE = {"families": ["vae"]}
PATHS = {step.title: step.path for step in steps_of(specification(), {"families": ["vae", "wgan"]})}
LOST = "2026-01-02T03:05:00Z"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KfpApi]:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(KUBECONFIG, str(tmp_path / "no-cluster"))
    with kfp_api.running(KfpApi()) as api:
        api.add("versions", {"pipeline_id": "p", "pipeline_spec": specification()})
        reference = {"pipeline_id": "p", "pipeline_version_id": "versions-1"}
        parameters = {"parameters": {"families": ["vae", "wgan"]}}
        run = {"display_name": "first", "pipeline_version_reference": reference, "runtime_config": parameters}
        api.add("runs", run)
        yield api


@pytest.fixture
def kubeflow(api: KfpApi) -> Kubeflow:
    return connect(api.url, poll_seconds=0.01, patience=1.0)


def _nodes(**states: str) -> list[Object]:
    """Return the nodes of steps; ``train_vae`` is the step of a family."""
    nodes = []
    for name, state in states.items():
        step, _, family = name.partition("_")
        nodes += step_nodes(PATHS[f"{step} [{family}]" if family else step], state)
    return nodes


def _plays(*acts: tuple[str, list[Object]]) -> Callable[[Object], None]:
    """Return a controller that shows one act for each look, the last for ever."""
    looks = count()

    def play(run: Object) -> None:
        run["state"], run["run_details"]["task_details"] = acts[min(next(looks), len(acts) - 1)]

    return play


def _of(now: Status, title: str) -> tuple[str, str]:
    progress = next(one.progress for one in now.steps if one.title == title)
    return progress.state, progress.cause


def test_each_change_of_a_step_is_told_once(api: KfpApi, kubeflow: Kubeflow, caplog: pytest.LogCaptureFixture) -> None:
    api.play = _plays(
        ("PENDING", []),
        ("RUNNING", _nodes(preprocess="RUNNING")),
        ("RUNNING", _nodes(preprocess="RUNNING")),
        ("RUNNING", _nodes(preprocess="SKIPPED", train_vae="RUNNING", train_wgan="RUNNING")),
        ("SUCCEEDED", _nodes(preprocess="SKIPPED", train_vae="SUCCEEDED", train_wgan="SUCCEEDED")),
    )
    with caplog.at_level("INFO", logger="caloforge.pipelines.kubeflow.watch"):
        assert wait(kubeflow, "runs-1").state == "succeeded"
    assert [line for line in caplog.messages if line.startswith(("preprocess", "train"))] == [
        "preprocess: running",
        "preprocess: from the cache",
        "train [vae]: running",
        "train [wgan]: running",
        "train [vae]: succeeded after 1:00",
        "train [wgan]: succeeded after 1:00",
    ]
    assert len(caplog.messages) == len(set(caplog.messages))


def test_an_attempt_is_a_change(api: KfpApi, kubeflow: Kubeflow, caplog: pytest.LogCaptureFixture) -> None:
    again = step_nodes(PATHS["train [vae]"], "RUNNING", attempts=2)
    api.play = _plays(("RUNNING", _nodes(train_vae="RUNNING")), ("RUNNING", again), ("SUCCEEDED", again))
    with caplog.at_level("INFO", logger="caloforge.pipelines.kubeflow.watch"):
        wait(kubeflow, "runs-1")
    assert caplog.messages[:2] == ["train [vae]: running", "train [vae]: running, attempt 2"]


def test_a_failed_run_names_its_step_and_why(api: KfpApi, kubeflow: Kubeflow) -> None:
    api.play = _plays(
        ("RUNNING", _nodes(train_vae="RUNNING")),
        ("FAILED", _nodes(preprocess="SUCCEEDED", train_vae="FAILED")),
    )
    node = kfp_api.node_id("(0).".join(PATHS["train [vae]"]) + "(0).executor(0)")
    api.logs[node] = f"started\n{Ending('train', 'vae', 'failed', 'the loss is not finite').line}\nTraceback\n"
    with pytest.raises(RunError) as error:
        wait(kubeflow, "runs-1")
    assert str(error.value) == "run 'first' failed: train [vae]: the loss is not finite"


def test_a_log_is_asked_for_once(api: KfpApi, kubeflow: Kubeflow) -> None:
    failed = _nodes(preprocess="SUCCEEDED", train_vae="FAILED")
    api.play = _plays(("RUNNING", failed), ("RUNNING", failed), ("FAILED", failed))
    with pytest.raises(RunError, match="train \\[vae\\]: its log, which would say why, cannot be read"):
        wait(kubeflow, "runs-1")
    paths = [path for _, path, *_ in api.requests if path.endswith("/log")]
    assert len(paths) == len(set(paths)) > 0


def test_a_family_that_failed_is_shown_so_though_its_step_succeeded(api: KfpApi, kubeflow: Kubeflow) -> None:
    api.play = _plays(("SUCCEEDED", _nodes(train_vae="SUCCEEDED", train_wgan="SUCCEEDED")))
    node = kfp_api.node_id("(0).".join(PATHS["train [wgan]"]) + "(0).executor(0)")
    api.logs[node] = Ending("train", "wgan", "failed", "out of time after 20 min").line
    now = status(kubeflow, "runs-1")
    assert now.state == "succeeded"
    assert _of(now, "train [vae]") == ("succeeded", "")
    assert _of(now, "train [wgan]") == ("failed", "out of time after 20 min")


@pytest.mark.parametrize("last", ["FAILED", "CANCELED"])
def test_a_run_that_was_terminated_is_called_that(api: KfpApi, kubeflow: Kubeflow, last: str) -> None:
    """Kubeflow says of such a run in the end that it has failed."""
    api.objects["runs"][0]["state_history"] = [
        {"update_time": kfp_api.NOW, "state": "RUNNING"}, {"update_time": LOST, "state": "CANCELING"},
    ]  # fmt: skip
    failed = _nodes(preprocess="SUCCEEDED", train_vae="FAILED")
    api.play = _plays(("RUNNING", _nodes(preprocess="RUNNING")), (last, failed))
    assert status(kubeflow, "runs-1").state == "terminating"
    with pytest.raises(RunError) as error:
        wait(kubeflow, "runs-1")
    assert str(error.value) == "run 'first' was terminated"
    now = status(kubeflow, "runs-1")
    assert _of(now, "train [vae]") == ("terminated", "")
    assert _of(now, "validate") == ("not run", "")


def test_a_failure_before_the_termination_stays_one(api: KfpApi, kubeflow: Kubeflow) -> None:
    api.objects["runs"][0]["state_history"] = [{"update_time": "2026-01-02T04:00:00Z", "state": "CANCELING"}]
    api.play = _plays(("FAILED", _nodes(train_vae="FAILED")))
    assert _of(status(kubeflow, "runs-1"), "train [vae]")[0] == "failed"


def test_what_runs_when_a_run_is_over_is_not_running(api: KfpApi, kubeflow: Kubeflow) -> None:
    """The task list of a large run stops in the middle of it."""
    stale = _nodes(preprocess="SUCCEEDED", train_vae="RUNNING", train_wgan="PENDING")
    api.play = _plays(("SUCCEEDED", stale))
    now = status(kubeflow, "runs-1")
    assert {one.progress.state for one in now.steps} == {"succeeded"}
    assert [one.title for one in now.steps if one.progress.seconds is not None] == ["preprocess"]
    assert "ends in the middle" in status_lines(now)[1]


def test_of_a_failed_run_whose_list_stopped_the_logs_tell(api: KfpApi, kubeflow: Kubeflow) -> None:
    api.play = _plays(("FAILED", _nodes(preprocess="SUCCEEDED", train_vae="RUNNING", train_wgan="RUNNING")))
    node = kfp_api.node_id("(0).".join(PATHS["train [vae]"]) + "(0).executor(0)")
    api.logs[node] = Ending("train", "vae", "failed", "no").line
    now = status(kubeflow, "runs-1")
    assert _of(now, "train [vae]") == ("failed", "no")
    assert _of(now, "train [wgan]") == ("unknown", "")
    assert _of(now, "validate") == ("unknown", "")


def test_a_running_runs_list_that_stands_still_is_not_all(
    api: KfpApi, kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_module, "STILL_SECONDS", 0.0)
    api.play = _plays(("RUNNING", _nodes(preprocess="SUCCEEDED", tune_vae="SUCCEEDED", train_vae="RUNNING")))
    names = {title: "(0).".join(PATHS[title]) + "(0).executor(0)" for title in ("train [vae]", "generate [vae]")}
    api.logs[kfp_api.node_id(names["train [vae]"])] = Ending("train", "vae", "succeeded").line
    workflow, _, code = kfp_api.node_id(names["generate [vae]"]).rpartition("-")
    # What still runs is not in the archive: it goes by the name of its pod.
    api.logs[f"{workflow}-retry-system-container-impl-{code}"] = "08:00:00  generate vae: started\n"
    watcher = Watcher(kubeflow, "runs-1")
    for still in (0.0, 1000.0):  # the logs are asked, and what they said is remembered
        monkeypatch.setattr(status_module, "STILL_SECONDS", still)
        asked = len(api.requests)
        now = watcher.look()
        assert _of(now, "train [vae]") == ("succeeded", "")
        assert _of(now, "generate [vae]") == ("running", "")
        assert _of(now, "generate [wgan]") == ("waiting", "")
    assert not [path for _, path, *_ in api.requests[asked:] if path.endswith("/log")]


def test_a_step_that_a_condition_left_out_did_not_run(api: KfpApi, kubeflow: Kubeflow) -> None:
    spec = specification()
    steps = spec["pipeline_spec"]["components"]["comp-caloforge-steps"]["dag"]["tasks"]
    steps["deploy"]["triggerPolicy"] = {"condition": "inputs.parameter_values['deploy'] != ''"}
    api.objects["versions"][0]["pipeline_spec"] = spec
    api.play = _plays(("SUCCEEDED", _nodes(preprocess="SUCCEEDED")))
    now = status(kubeflow, "runs-1")
    assert _of(now, "deploy") == ("not run", "")
    assert _of(now, "export") == ("succeeded", "")


@pytest.mark.parametrize("fault", [429, 500, 502, 503, 504, 0.3, "reset", "lost"])
def test_waiting_bears_what_passes(
    api: KfpApi,
    kubeflow: Kubeflow,
    fault: float | str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("caloforge.pipelines.kubeflow.client.ANSWER_SECONDS", 0.1)
    api.play = _plays(("RUNNING", []), ("RUNNING", []), ("SUCCEEDED", []))
    api.script = ["none", "none", fault, fault]
    assert wait(kubeflow, "runs-1").state == "succeeded"
    assert caplog.text.count("trying again") == 2


@pytest.mark.parametrize(("fault", "message"), [(401, "expired"), (403, "forbidden"), ("html", "web page")])
def test_waiting_ends_when_the_login_does(api: KfpApi, kubeflow: Kubeflow, fault: int | str, message: str) -> None:
    api.play = _plays(("RUNNING", []))
    api.script = ["none", "none", fault]
    with pytest.raises(Refused, match=message):
        wait(kubeflow, "runs-1")


def test_a_run_that_was_deleted(kubeflow: Kubeflow) -> None:
    with pytest.raises(Refused, match="cannot read run 'nothing': not there"):
        status(kubeflow, "nothing")


def test_an_archived_run_says_so(api: KfpApi, kubeflow: Kubeflow) -> None:
    api.objects["runs"][0].update(storage_state="ARCHIVED", state="SUCCEEDED")
    assert "note: archived" in status_lines(status(kubeflow, "runs-1"))


def test_a_run_of_another_pipeline(api: KfpApi, kubeflow: Kubeflow) -> None:
    spec = {
        "pipelineInfo": {"name": "weather"},
        "deploymentSpec": {"executors": {"exec-rain": {"container": {"image": "python:3.12"}}}},
        "components": {"comp-rain": {"executorLabel": "exec-rain"}},
        "root": {"dag": {"tasks": {"rain": {"componentRef": {"name": "comp-rain"}, "taskInfo": {"name": "rain"}}}}},
    }
    api.objects["versions"][0]["pipeline_spec"] = spec
    lines = status_lines(status(kubeflow, "runs-1"))
    assert lines[1] == "note: a run of the pipeline 'weather', which is none of caloforge's"
    assert lines[2].split() == ["rain", "waiting"]


def test_a_run_whose_version_was_deleted(api: KfpApi, kubeflow: Kubeflow) -> None:
    api.objects["versions"].clear()
    api.play = _plays(("SUCCEEDED", []))
    now = status(kubeflow, "runs-1")
    assert (now.state, now.steps) == ("succeeded", ())
    assert "is not there any more" in now.notes[0]


def test_status_is_a_table(api: KfpApi, kubeflow: Kubeflow) -> None:
    api.objects["runs"][0]["runtime_config"] = {"parameters": ONE}
    again = step_nodes(PATHS["train [vae]"], "FAILED", attempts=2)
    api.play = _plays(("FAILED", [*_nodes(preprocess="SKIPPED", tune_vae="SUCCEEDED"), *again]))
    assert status_lines(status(kubeflow, "runs-1")) == [
        "first: failed",
        "  preprocess      cached",
        "  tune [vae]      succeeded  1:00",
        "  train [vae]     failed     1:00  attempt 2  its log, which would say why, cannot be read",
        *(
            f"  {title:<14}  not run"
            for title in ("generate [vae]", "validate", "compare", "export", "deploy", "notify")
        ),
        f"page: {api.url}/#/runs/details/runs-1",
    ]


def test_a_cluster_that_refuses_or_is_away_is_no_obstacle(
    api: KfpApi, kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api.play = _plays(("RUNNING", _nodes(preprocess="RUNNING")))
    with cluster_running(KubernetesApi()) as cluster:
        cluster.script = [403, 403, 403, 403]
        monkeypatch.setattr(KUBECONFIG, str(write_kubeconfig(tmp_path / "config", cluster.url)))
        watcher = Watcher(kubeflow, "runs-1")
        assert _of(watcher.look(), "preprocess") == ("running", "")
        asked = len(cluster.requests)
        watcher.look()
        assert len(cluster.requests) == asked, "it is left alone for a while"
    assert _of(Watcher(kubeflow, "runs-1").look(), "preprocess") == ("running", "")
    assert not caplog.messages
