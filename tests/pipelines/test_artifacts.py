import os
from collections.abc import Iterator
from pathlib import Path

import kfp_api
import pytest
from kfp_api import KfpApi
from object_store import ObjectStore, serving

from caloforge.errors import InputError
from caloforge.pipelines.artifacts import fetch_artifacts
from caloforge.pipelines.kubeflow import Kubeflow, connect

PLACE = "mlpipeline/v2/artifacts/caloforge/runs-1"
CONTENT = {
    "compare/4f/leaderboard": b'{"winner": "vae"}',
    "compare/4f/summary": b"| vae |",
    "compare/4f/winner/config.json": b'{"family": "vae"}',
    "preprocess/0a/quality": b"# quality",
    "validate/77/report": b"<!doctype html>",
    "validate/77/judgement/metrics.json": b"{}",
    "validate/77/judgement/plots/a.png": b"png",
    "validate/77/executor-logs": b"log",
    "export/12/exported/config.json": b'{"family": "vae"}',
    "export/12/exported/generator.onnx": b"onnx",
    "train/01/bundle/config.json": b'{"family": "vae"}',
    "train/02/bundle/config.json": b'{"family": "wgan"}',
}
FETCHED = {
    "leaderboard.json": b'{"winner": "vae"}', "leaderboard.md": b"| vae |", "quality.md": b"# quality",
    "report.html": b"<!doctype html>", "metrics.json": b"{}", "plots/a.png": b"png",
    "bundle/config.json": b'{"family": "vae"}', "bundle/generator.onnx": b"onnx",
    "bundles/vae/config.json": b'{"family": "vae"}', "bundles/wgan/config.json": b'{"family": "wgan"}',
}  # fmt: skip


@pytest.fixture
def kubeflow() -> Iterator[Kubeflow]:
    with kfp_api.running(KfpApi()) as api:
        spec = {"pipeline_spec": {"pipelineInfo": {"name": "caloforge"}}, "platform_spec": {}}
        api.add("runs", {"display_name": "first", "pipeline_spec": spec})
        yield connect(api.url, poll_seconds=0.01, patience=1.0)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with serving(ObjectStore()) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield store


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_results_are_laid_out_as_those_of_a_local_run(kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path) -> None:
    store.objects = {f"{PLACE}/{path}": content for path, content in CONTENT.items()}
    written = fetch_artifacts(kubeflow, "runs-1", tmp_path / "run")
    assert _files(tmp_path / "run") == FETCHED
    assert written == ["bundle", "bundles/vae", "bundles/wgan", "leaderboard.json", "leaderboard.md", "metrics.json",
                       "plots", "quality.md", "report.html"]  # fmt: skip


def test_older_servers_use_no_folder_of_random_name(kubeflow: Kubeflow, tmp_path: Path) -> None:
    for path, content in CONTENT.items():
        task, _, rest = path.split("/", 2)
        if task != "train":
            target = tmp_path / "store" / "caloforge" / "runs-1" / task / rest
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    fetch_artifacts(kubeflow, "runs-1", tmp_path / "run", root=str(tmp_path / "store"))
    assert _files(tmp_path / "run") == {
        name: value for name, value in FETCHED.items() if not name.startswith("bundles")
    }


def test_the_last_attempt_of_a_step_counts(kubeflow: Kubeflow, tmp_path: Path) -> None:
    for age, (attempt, content) in enumerate([("b", "failed"), ("a", "good")]):
        report = tmp_path / "store" / "caloforge" / "runs-1" / "validate" / attempt / "report"
        report.parent.mkdir(parents=True)
        report.write_text(content)
        os.utime(report, (age + 1e9, age + 1e9))
    fetch_artifacts(kubeflow, "runs-1", tmp_path / "run", root=str(tmp_path / "store"))
    assert (tmp_path / "run" / "report.html").read_text() == "good"


def test_what_a_cached_step_left_elsewhere_is_named(
    kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.objects = {f"{PLACE}/validate/77/report": b"<!doctype html>"}
    with caplog.at_level("WARNING", logger="caloforge"):
        assert fetch_artifacts(kubeflow, "runs-1", tmp_path / "run") == ["report.html"]
    assert "not with this run: bundle, leaderboard.json, leaderboard.md, metrics.json" in caplog.text


def test_nothing_there_says_where_to_look(kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mlpipeline/v2/artifacts/caloforge/runs-1: no artifacts .* give --root"):
        fetch_artifacts(kubeflow, "runs-1", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_store_that_refuses(kubeflow: Kubeflow, store: ObjectStore, tmp_path: Path) -> None:
    store.script = [403] * 20
    with pytest.raises(InputError, match="access is denied") as error:
        fetch_artifacts(kubeflow, "runs-1", tmp_path / "run")
    assert "planted-secret" not in str(error.value)


def test_no_address_of_the_store(kubeflow: Kubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="where is the store"):
        fetch_artifacts(kubeflow, "runs-1", tmp_path / "run")
