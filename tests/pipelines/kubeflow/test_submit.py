from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_api
import pytest
from kfp_api import KfpApi

from caloforge.errors import InputError
from caloforge.pipelines.kubeflow.client import Kubeflow, KubeflowError, Refused, connect
from caloforge.pipelines.kubeflow.submit import submit

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden.yaml"
DATA = {"data": "s3://bucket/showers.hdf5"}


@pytest.fixture
def api() -> Iterator[KfpApi]:
    with kfp_api.running(KfpApi()) as api:
        yield api


@pytest.fixture
def kubeflow(api: KfpApi) -> Kubeflow:
    return connect(api.url, poll_seconds=0.01, patience=1.0)


def test_a_run_of_a_new_version_is_started(api: KfpApi, kubeflow: Kubeflow) -> None:
    made = submit(
        kubeflow, GOLDEN, {**DATA, "families": ["vae"], "seed": 3}, run_name="first", service_account="pipeline-runner"
    )
    [run] = api.objects["runs"]
    [version] = api.objects["versions"]
    assert made.identifier == run["run_id"]
    assert made.link == f"{api.url}/#/runs/details/{run['run_id']}"
    assert run["display_name"] == "first"
    assert run["experiment_id"] == api.objects["experiments"][0]["experiment_id"]
    assert run["runtime_config"]["parameters"] == {**DATA, "families": ["vae"], "seed": 3}
    assert run["service_account"] == "pipeline-runner"
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert "platforms" in version["pipeline_spec"]["platform_spec"], "volumes and secrets come along"


def test_equal_content_is_uploaded_once_and_new_content_as_a_version(
    api: KfpApi, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    first, again = (submit(kubeflow, GOLDEN, DATA) for _ in range(2))
    assert first.version == again.version
    assert first.identifier != again.identifier
    changed = tmp_path / "changed.yaml"
    changed.write_text(GOLDEN.read_text().replace("MEMORY", "memory") + "\n")
    third = submit(kubeflow, changed, DATA)
    assert third.version.pipeline_id == first.version.pipeline_id
    assert third.version.version_id != first.version.version_id
    assert len(api.objects["pipelines"]) == 1
    assert len(api.asked("POST", "upload_version")) == 2


def test_runs_on_a_schedule(api: KfpApi, kubeflow: Kubeflow) -> None:
    made = submit(kubeflow, GOLDEN, DATA, cron="0 0 3 * * *", run_name="each night")
    [schedule] = api.objects["recurringruns"]
    assert made.identifier == schedule["recurring_run_id"]
    assert schedule["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert (schedule["mode"], schedule["no_catchup"]) == ("ENABLE", True)
    assert not api.objects["runs"]
    with pytest.raises(InputError, match="a schedule 'each night' is there"):
        submit(kubeflow, GOLDEN, DATA, cron="0 0 3 * * *", run_name="each night")


@pytest.mark.parametrize(
    ("parameters", "more", "message"),
    [
        ({"familys": []}, {}, r"unknown parameter 'familys'; did you mean 'families'"),
        ({"seed": "many"}, {}, r"parameter 'seed': 'many' is not of type NUMBER_INTEGER"),
        ({"seed": True}, {}, r"parameter 'seed': True is not of type NUMBER_INTEGER"),
        ({"families": {"a": 1}}, {}, r"parameter 'families'.* is not of type LIST"),
        ({}, {"cron": "0 3 * * *"}, "expected six fields"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_made(
    api: KfpApi, kubeflow: Kubeflow, parameters: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        submit(kubeflow, GOLDEN, parameters, **more)
    assert not [request for request in api.requests if request[0] == "POST"]


def test_a_file_that_is_no_pipeline_is_refused(kubeflow: Kubeflow, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        submit(kubeflow, tmp_path / "absent.yaml", {})
    (tmp_path / "other.yaml").write_text("kind: ConfigMap\n")
    with pytest.raises(InputError, match="kind"):
        submit(kubeflow, tmp_path / "other.yaml", {})


# Faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [429, 500, "reset", "lost"])
@pytest.mark.parametrize("which", ["pipelines", "pipelines/upload_version", "experiments", "runs"])
def test_a_passing_fault_changes_nothing(api: KfpApi, fault: int | str, which: str) -> None:
    """Whatever request it hits, and whether its work was done or not, there is one of each in the end."""
    kubeflow = connect(api.url, poll_seconds=0.01, patience=5.0)
    struck: list[str] = []
    answer = api.answer

    def strike(method: str, path: str, *rest: Any) -> Any:
        if method == "POST" and path == kfp_api.PREFIX + which and not struck:
            struck.append(path)
            if fault == "lost":
                answer(method, path, *rest)
            if isinstance(fault, int):
                return fault, {"message": "a moment, please"}
            raise ConnectionAbortedError
        return answer(method, path, *rest)

    api.answer = strike  # type: ignore[method-assign]
    submit(kubeflow, GOLDEN, DATA, run_name="only one")
    assert struck
    assert {kind: len(found) for kind, found in api.objects.items()} == {
        "experiments": 1, "pipelines": 1, "versions": 1, "runs": 1, "recurringruns": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (401, r"it does not know who asks; the token in CALOFORGE_KFP_TOKEN or --token-file.* is missing or expired"),
        (403, r"cannot look for the pipeline: forbidden in namespace None: 403"),
        (404, r"not there, or not the API version v2beta1"),
        ("html", r"a web page answers, not the API of Kubeflow Pipelines"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(
    api: KfpApi, kubeflow: Kubeflow, fault: int | str, message: str
) -> None:
    api.script = [fault]
    with pytest.raises(Refused, match=message) as error:
        submit(kubeflow, GOLDEN, DATA)
    assert "\n" not in str(error.value)
    assert not api.objects["runs"]


def test_a_server_that_stays_broken_is_given_up(api: KfpApi) -> None:
    kubeflow = connect(api.url, poll_seconds=0.01, patience=0.1)
    api.script = [503] * 1000
    with pytest.raises(KubeflowError, match="cannot look for the pipeline: 503 as the script says"):
        submit(kubeflow, GOLDEN, DATA)
    api.script = ["none"] * 5 + [500] * 1000  # the lists, the pipeline, the version: the run is never made
    with pytest.raises(KubeflowError):
        submit(kubeflow, GOLDEN, DATA)
    assert not api.objects["runs"]
