"""The commands that talk to Kubeflow Pipelines, against a local server."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_api
import pytest
import yaml
from click.testing import CliRunner, Result
from kfp_api import KfpApi, node_id, step_nodes

from caloforge import cli
from caloforge.ending import Ending
from caloforge.logs import LINE
from caloforge.pipelines.kubeflow.artifacts import Fetched
from caloforge.pipelines.kubeflow.client import COOKIES, HOST, TOKEN
from caloforge.pipelines.kubeflow.specification import steps_of

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "pipelines" / "golden.yaml"
SECRET = "planted-secret-0123456789"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpApi]:
    monkeypatch.delenv(COOKIES, raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nothing/here")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "/nothing/here")
    with kfp_api.running(KfpApi(token=SECRET)) as api:
        monkeypatch.setenv(TOKEN, SECRET)
        monkeypatch.setenv(HOST, api.url)
        yield api


def _invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def _ends(state: str, api: KfpApi | None = None, **steps: str) -> Any:
    """Return what lets a run end so, with steps outside of loops in these states."""

    def play(run: dict[str, Any]) -> None:
        run["state"] = state
        if api is not None:
            nodes = [step_nodes(_path(api, step), state) for step, state in steps.items()]
            run["run_details"]["task_details"] = [node for some in nodes for node in some]

    return play


def _path(api: KfpApi, title: str) -> tuple[str, ...]:
    """Return where a step is in the pipeline that was uploaded last."""
    steps = steps_of(api.objects["versions"][-1]["pipeline_spec"], {})
    return next(step.path for step in steps if step.title == title)


def _node(api: KfpApi, title: str) -> str:
    return node_id("(0).".join(_path(api, title)) + "(0).executor(0)")


def _errors(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if not LINE.fullmatch(line)]


def test_submit_compiles_uploads_runs_and_waits(api: KfpApi, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        "families: [vae]\nname: mine\nnamespace: profile\nservice_account: runner\n"
    )
    (tmp_path / "parameters.yaml").write_text("seed: 5\npreset: full\n")
    api.multi_user = True
    api.play = _ends("SUCCEEDED", api, preprocess="SUCCEEDED")
    result = _invoke(
        "submit", "--settings", tmp_path / "settings.yaml", "--parameters", tmp_path / "parameters.yaml",
        "--set", "data=s3://b/c.hdf5", "--set", "families=vae,wgan", "--experiment", "trials", "--run-name", "one",
        "--wait",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    [run] = api.objects["runs"]
    assert run["runtime_config"]["parameters"] == {
        "seed": 5, "preset": "full", "data": "s3://b/c.hdf5", "families": ["vae", "wgan"],
    }  # fmt: skip
    assert run["service_account"] == "runner"
    assert api.objects["experiments"][0]["namespace"] == api.objects["pipelines"][0]["namespace"] == "profile"
    assert f"run: {api.url}/#/runs/details/runs-1" in result.stdout
    assert f"pipeline: {api.url}/#/pipelines/details/pipelines-1/version/versions-1" in result.stdout
    assert "  preprocess: succeeded after 1:00" in result.stderr
    assert result.stdout.endswith("one: succeeded\n")


def test_the_last_line_of_a_failed_run_is_why(api: KfpApi) -> None:
    def play(run: dict[str, Any]) -> None:
        api.logs[_node(api, "validate")] = Ending("validate", "", "failed", "showers.hdf5: no such file").line
        _ends("FAILED", api, validate="FAILED")(run)

    api.play = play
    result = _invoke("submit", "--pipeline", GOLDEN, "--set", "data=s3://b/c.hdf5", "--run-name", "one", "--wait")
    assert result.exit_code == 1
    assert _errors(result) == ["Error: run 'one' failed: validate: showers.hdf5: no such file"]


def test_a_schedule(api: KfpApi) -> None:
    result = _invoke("submit", "--pipeline", GOLDEN, "--cron", "0 0 3 * * *", "--run-name", "nightly")
    assert result.exit_code == 0, result.output
    assert "schedule: " in result.stdout
    assert len(api.objects["recurringruns"]) == 1
    assert _invoke("submit", "--pipeline", GOLDEN, "--cron", "0 0 3 * * *", "--wait").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "sed=1"], "unknown parameter 'sed'; did you mean 'seed'"),
        (["--set", "seed"], "'seed': expected name=value"),
        (["--set", "seed=1", "--set", "seed=2"], "parameter 'seed' is given twice"),
        (["--token-file", "/nothing/here"], "cannot be read"),
        (["--host", "kubeflow.example.org"], "begins with https://"),
    ],
)
def test_wrong_words_are_one_line(api: KfpApi, arguments: list[str], message: str) -> None:
    result = _invoke("submit", "--pipeline", GOLDEN, *arguments)
    assert result.exit_code == 2
    [error] = _errors(result)
    assert message in error
    assert not api.objects["runs"]


def test_a_run_without_data_is_not_started(api: KfpApi, tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(GOLDEN.read_text().replace("s3://showers/dataset_2_1.hdf5", "''"))
    result = _invoke("submit", "--pipeline", tmp_path / "pipeline.yaml")
    assert result.exit_code == 2
    assert "'data' has no default and is not given; add --set data=..." in _errors(result)[0]
    assert not api.objects["pipelines"]


def test_an_emptied_field_is_no_address_either(api: KfpApi) -> None:
    result = _invoke("submit", "--pipeline", GOLDEN, "--set", "data=")
    assert result.exit_code == 2
    assert "add --set data=..." in _errors(result)[0]
    assert not api.objects["runs"]


def _run(api: KfpApi) -> None:
    """Put a run of the golden pipeline there."""
    spec = next(iter(yaml.load_all(GOLDEN.read_text(), Loader=yaml.CSafeLoader)))
    api.add("versions", {"pipeline_id": "p", "pipeline_spec": spec})
    reference = {"pipeline_id": "p", "pipeline_version_id": "versions-1"}
    api.add("runs", {"display_name": "first", "pipeline_version_reference": reference})


def test_status(api: KfpApi) -> None:
    _run(api)
    api.play = _ends("RUNNING", api, preprocess="RUNNING")
    result = _invoke("status", "runs-1")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "first: running"
    assert lines[1].split()[:2] == ["preprocess", "running"]
    assert _invoke("status", "absent").exit_code == 2


def test_status_for_programs(api: KfpApi) -> None:
    _run(api)
    api.play = _ends("FAILED", api, preprocess="FAILED")
    result = _invoke("status", "runs-1", "--json")
    assert result.exit_code == 0, result.output
    read = json.loads(result.stdout)
    assert read["state"] == "failed"
    assert [step["state"] for step in read["steps"] if step["step"] == "preprocess"] == ["failed"]
    assert _invoke("status", "runs-1", "--json", "--watch").exit_code == 2


def test_status_that_watches_ends_as_the_run_does(api: KfpApi) -> None:
    _run(api)
    api.play = _ends("FAILED", api, preprocess="FAILED")
    result = _invoke("status", "runs-1", "--watch")
    assert result.exit_code == 1
    assert _errors(result)[-1].startswith("Error: run 'first' failed: preprocess: ")
    api.play = _ends("SUCCEEDED")
    assert _invoke("status", "runs-1", "--watch").exit_code == 0


def test_logs_of_a_step(api: KfpApi) -> None:
    _run(api)
    api.play = _ends("RUNNING", api, preprocess="SUCCEEDED", validate="SKIPPED")
    ending = Ending("preprocess", "", "succeeded").line
    api.logs[_node(api, "preprocess")] = f"[KFP Executor 2026-01-02 INFO]: x\n08:00:00  preprocess: started\n{ending}\n"
    result = _invoke("logs", "runs-1", "preprocess")
    assert result.exit_code == 0, result.output
    assert result.stdout == "08:00:00  preprocess: started\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preproces"], "unknown step 'preproces'; did you mean 'preprocess'"),
        (["train"], "step 'train' runs for each family; choose with --family: "),
        (["train", "--family", "va"], "unknown family of step 'train': 'va'; did you mean 'vae'"),
        (["export"], "export: has not started yet"),
        (["validate"], "validate: was taken from the cache; its log is that of an earlier run"),
        (["preprocess"], "preprocess: there is no log: its pod is gone"),
    ],
)
def test_a_log_that_is_not_there(api: KfpApi, arguments: list[str], message: str) -> None:
    _run(api)
    api.play = _ends("RUNNING", api, preprocess="SUCCEEDED", validate="SKIPPED")
    result = _invoke("logs", "runs-1", *arguments)
    assert result.exit_code == 2
    [error] = _errors(result)
    assert message in error


def _start(*arguments: object) -> subprocess.Popen[str]:
    """Start the real command."""
    command = [sys.executable, "-P", "-m", "caloforge", *map(str, arguments)]
    environment = {**os.environ, "KUBECONFIG": "/nothing/here"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_each_line_is_printed_once(api: KfpApi) -> None:
    """kfp logs through the root logger, which made it repeat our lines as ``INFO:caloforge...``."""
    api.play = _ends("FAILED", api, preprocess="FAILED")
    process = _start("submit", "--pipeline", GOLDEN, "--set", "data=s3://b/c.hdf5", "--run-name", "one", "--wait")
    output, log = process.communicate(timeout=120)
    assert process.returncode == 1
    lines = [*output.splitlines(), *log.splitlines()]
    assert len([line for line in lines if "preprocess: failed" in line]) == 1
    assert not [line for line in lines if "INFO" in line]
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_waiting_that_is_killed_says_how_to_go_on(api: KfpApi, number: signal.Signals, code: int) -> None:
    api.play = _ends("RUNNING", api, preprocess="RUNNING")
    process = _start(
        "submit", "--pipeline", GOLDEN, "--set", "data=s3://b/c.hdf5", "--namespace", "mine", "--wait"
    )  # fmt: skip
    assert process.stderr is not None
    while "preprocess: running" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == code
    told = f"the run goes on; so does waiting with: caloforge status runs-1 --watch --host {api.url} --namespace mine"
    assert told in log.splitlines()
    assert api.objects["runs"][0]["state"] == "RUNNING"


def test_a_server_that_is_gone_says_how_to_go_on(api: KfpApi, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(api)
    monkeypatch.setattr("caloforge.pipelines.kubeflow.client.PATIENCE_SECONDS", 0.0)
    api.script = ["none", 403]
    result = _invoke("status", "runs-1", "--watch")
    assert result.exit_code == 2
    assert "caloforge status runs-1 --watch" in result.stderr


def test_no_secret_is_shown_or_written(
    api: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Plant a token, a cookie, keys of a store and a webhook; look for them wherever something is written."""
    for name in ("AWS_SECRET_ACCESS_KEY", "CALOFORGE_WEBHOOK", COOKIES):
        monkeypatch.setenv(name, f"https://{SECRET}" if name == "CALOFORGE_WEBHOOK" else SECRET)
    settings, pipeline = tmp_path / "settings.yaml", tmp_path / "pipeline.yaml"
    settings.write_text(
        "pod: {secret_env: {AWS_SECRET_ACCESS_KEY: {secret: store, key: secretkey}}}\n"
        "webhook: {secret: chat, key: url}\n"
    )
    shown = ""
    with caplog.at_level(logging.DEBUG):
        shown += _invoke("compile", "--settings", settings, "-o", pipeline).output
        shown += _invoke("compile", "--settings", settings, "--kubernetes-manifest", "-o", tmp_path / "m.yaml").output
        submission = ("submit", "--pipeline", pipeline, "--set", "data=s3://b/c", "--run-name", "one", "--wait")
        api.play = _ends("SUCCEEDED")
        shown += _invoke(*submission).output
        for state, fault in (("FAILED", "none"), ("SUCCEEDED", 400), ("SUCCEEDED", 401), ("SUCCEEDED", 403)):
            api.play, api.script = _ends(state), ["none", fault]
            refused = _invoke(*submission)
            assert refused.exit_code
            shown += refused.output
        shown += _invoke("status", "runs-1").output
        shown += _invoke("fetch-artifacts", "runs-1", "--root", tmp_path, "-o", tmp_path / "run").output
        shown += _invoke("status", "runs-1", "--host", f"http://me:{SECRET}@127.0.0.1:1").output
    assert "one: succeeded" in shown
    assert "Bearer ***" in shown, "the server repeats the token, and we do not"
    assert SECRET not in shown
    assert SECRET not in caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text()]
    assert SECRET not in str([(path, query, content) for _, path, query, _, content in api.requests])
    assert {request[3].get("authorization") for request in api.requests} == {f"Bearer {SECRET}"}


def test_results_that_are_lost_end_with_1_and_the_others_come(
    api: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = Fetched(["report.html"], ["generated/vae.hdf5 (200 MB)"], ["bundle: s3://b/bundle: nothing is there"])
    asked: list[dict[str, Any]] = []

    def fetch(*_: Any, **options: Any) -> Fetched:
        asked.append(options)
        return fetched

    monkeypatch.setattr("caloforge.pipelines.kubeflow.artifacts.fetch_artifacts", fetch)
    result = _invoke("fetch-artifacts", "runs-1", "-o", tmp_path / "run")
    assert result.exit_code == 1
    assert _errors(result) == ["Error: bundle: s3://b/bundle: nothing is there"]
    assert result.stdout.splitlines() == [
        str(tmp_path / "run" / "report.html"), "not fetched: generated/vae.hdf5 (200 MB); --all brings it",
    ]  # fmt: skip
    fetched.lost.clear()
    assert _invoke("fetch-artifacts", "runs-1", "--all", "-o", tmp_path / "run").exit_code == 0
    assert [options["everything"] for options in asked] == [False, True]
