"""The commands that talk to Kubeflow Pipelines, against a local server."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_api
import pytest
from click.testing import CliRunner, Result
from kfp_api import KfpApi, task

from caloforge import cli
from caloforge.logs import LINE
from caloforge.pipelines.artifacts import Fetched
from caloforge.pipelines.kubeflow import COOKIES, HOST, TOKEN

GOLDEN = Path(__file__).parent / "pipelines" / "golden.yaml"
SECRET = "planted-secret-0123456789"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpApi]:
    monkeypatch.delenv(COOKIES, raising=False)
    with kfp_api.running(KfpApi(token=SECRET)) as api:
        monkeypatch.setenv(TOKEN, SECRET)
        monkeypatch.setenv(HOST, api.url)
        yield api


def _invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def _ends(state: str, *tasks: dict[str, Any]) -> Any:
    def play(run: dict[str, Any]) -> None:
        run["state"] = state
        run["run_details"]["task_details"] = list(tasks)

    return play


def _errors(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if not LINE.fullmatch(line)]


def test_submit_compiles_uploads_runs_and_waits(api: KfpApi, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        "families: [vae]\nname: mine\nnamespace: profile\nservice_account: runner\n"
    )
    (tmp_path / "parameters.yaml").write_text("seed: 5\npreset: full\n")
    api.multi_user = True
    api.play = _ends("SUCCEEDED", task("train", "SUCCEEDED"))
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
    assert "train: succeeded" in result.stderr
    assert result.stdout.endswith("one: succeeded\n")


def test_a_failed_run_fails_the_command(api: KfpApi) -> None:
    api.play = _ends("FAILED", task("validate", "FAILED", error="exit code 1"))
    result = _invoke("submit", "--pipeline", GOLDEN, "--set", "data=s3://b/c.hdf5", "--run-name", "one", "--wait")
    assert result.exit_code == 1
    assert _errors(result) == [
        f"Error: run 'one' ended failed: task 'validate': exit code 1 (logs: {api.url}/#/runs/details/runs-1)"
    ]


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


def test_status(api: KfpApi) -> None:
    api.add("runs", {"display_name": "first"})
    api.play = _ends("RUNNING", task("train", "RUNNING"))
    result = _invoke("status", "runs-1")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "first: running"
    assert _invoke("status", "absent").exit_code == 2


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

    monkeypatch.setattr("caloforge.pipelines.artifacts.fetch_artifacts", fetch)
    result = _invoke("fetch-artifacts", "runs-1", "-o", tmp_path / "run")
    assert result.exit_code == 1
    assert _errors(result) == ["Error: bundle: s3://b/bundle: nothing is there"]
    assert result.stdout.splitlines() == [
        str(tmp_path / "run" / "report.html"), "not fetched: generated/vae.hdf5 (200 MB); --all brings it",
    ]  # fmt: skip
    fetched.lost.clear()
    assert _invoke("fetch-artifacts", "runs-1", "--all", "-o", tmp_path / "run").exit_code == 0
    assert [options["everything"] for options in asked] == [False, True]
