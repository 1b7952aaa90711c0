from collections.abc import Callable, Iterator
from itertools import count

import kfp_api
import pytest
from kfp_api import KfpApi, Object, task

from caloforge.pipelines.kubeflow import Kubeflow, Refused, connect
from caloforge.pipelines.status import RunError, status, status_lines, wait

DRIVERS = [
    task("root-driver", "SUCCEEDED"),
    task("train-driver", "SUCCEEDED", identifier="1"),
    task("executor", "FAILED"),
]
"""Nodes that are no task; the real server lists them too."""


@pytest.fixture
def api() -> Iterator[KfpApi]:
    with kfp_api.running(KfpApi()) as api:
        api.add("runs", {"display_name": "first"})
        yield api


@pytest.fixture
def kubeflow(api: KfpApi) -> Kubeflow:
    return connect(api.url, poll_seconds=0.01, patience=1.0)


def _plays(*acts: tuple[str, list[Object]]) -> Callable[[Object], None]:
    """Return a controller that shows one act for each look, the last for ever."""
    looks = count()

    def play(run: Object) -> None:
        run["state"], tasks = acts[min(next(looks), len(acts) - 1)]
        run["run_details"]["task_details"] = [*DRIVERS, *tasks]

    return play


def test_each_change_of_a_task_is_told_once(api: KfpApi, kubeflow: Kubeflow, caplog: pytest.LogCaptureFixture) -> None:
    trainings = [task("train", "RUNNING", identifier="a"), task("train", "RUNNING", identifier="b")]
    ended = [task("train", "SUCCEEDED", identifier="a"), task("train", "SUCCEEDED", identifier="b")]
    api.play = _plays(
        ("PENDING", []),
        ("RUNNING", [task("preprocess", "RUNNING")]),
        ("RUNNING", [task("preprocess", "RUNNING")]),
        ("RUNNING", [task("preprocess", "SUCCEEDED"), *trainings]),
        ("SUCCEEDED", [task("preprocess", "SUCCEEDED"), *ended]),
    )
    with caplog.at_level("INFO", logger="caloforge.pipelines.status"):
        assert wait(kubeflow, "runs-1").state == "SUCCEEDED"
    assert caplog.messages == [
        "preprocess: running",
        "preprocess: succeeded after 60 s",
        "train: running",
        "train: running",
        "train: succeeded after 60 s",
        "train: succeeded after 60 s",
    ]


def test_a_failed_run_names_its_task(api: KfpApi, kubeflow: Kubeflow) -> None:
    api.play = _plays(
        ("RUNNING", [task("train", "RUNNING")]),
        ("FAILED", [task("preprocess", "SUCCEEDED"), task("train", "FAILED", error="OOMKilled\n(exit code 137)")]),
    )
    with pytest.raises(RunError) as error:
        wait(kubeflow, "runs-1")
    assert str(error.value) == (
        f"run 'first' ended failed: task 'train': OOMKilled (exit code 137) (logs: {api.url}/#/runs/details/runs-1)"
    )


def test_a_cancelled_run_is_over(api: KfpApi, kubeflow: Kubeflow) -> None:
    """kfp's own wait goes on for ever then."""
    api.play = _plays(("RUNNING", []), ("CANCELING", []), ("CANCELED", []))
    with pytest.raises(RunError, match="run 'first' ended canceled: no task says why"):
        wait(kubeflow, "runs-1")


@pytest.mark.parametrize("fault", [429, 500, 502, 503, 504, 0.3, "reset", "lost"])
def test_waiting_bears_what_passes(
    api: KfpApi,
    kubeflow: Kubeflow,
    fault: float | str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("caloforge.pipelines.kubeflow.ANSWER_SECONDS", 0.1)
    api.play = _plays(("RUNNING", []), ("RUNNING", []), ("SUCCEEDED", []))
    api.script = ["none", fault, fault]
    assert wait(kubeflow, "runs-1").state == "SUCCEEDED"
    assert caplog.text.count("asking again") == 2


@pytest.mark.parametrize(("fault", "message"), [(401, "expired"), (403, "forbidden"), ("html", "web page")])
def test_waiting_ends_when_the_login_does(api: KfpApi, kubeflow: Kubeflow, fault: int | str, message: str) -> None:
    api.play = _plays(("RUNNING", []))
    api.script = ["none", fault]
    with pytest.raises(Refused, match=message):
        wait(kubeflow, "runs-1")


def test_a_run_that_is_not_there(kubeflow: Kubeflow) -> None:
    with pytest.raises(Refused, match="cannot read run 'nothing': not there"):
        status(kubeflow, "nothing")


def test_status_is_a_table(api: KfpApi, kubeflow: Kubeflow) -> None:
    api.play = _plays(("FAILED", [task("train", "FAILED", error="no memory"), task("preprocess", "SUCCEEDED")]))
    assert status_lines(status(kubeflow, "runs-1")) == [
        "first: failed",
        "  preprocess  succeeded       60 s",
        "  train       failed          60 s  no memory",
        f"page: {api.url}/#/runs/details/runs-1",
    ]
