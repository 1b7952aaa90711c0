"""The step as a whole, and as a component in kfp.local, with a kubeconfig as a user has it."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from kfp import dsl, local
from kserve_controller import KServe
from kubernetes_api import KubernetesApi, running

from caloforge.cli import main
from caloforge.components.deploy import deploy as component
from caloforge.errors import InputError
from caloforge.models.agreement import TOLERANCE
from caloforge.serving.deploy import AUTHORIZATION, deploy
from caloforge.serving.inference_service import ServiceSettings

pytestmark = pytest.mark.slow

SECRET = "Bearer planted-2b1f"


@pytest.fixture
def api(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    """A cluster that the kubeconfig names."""
    with running(KubernetesApi("inferenceservices")) as api:
        KServe(api, server.url).looks = 1  # nobody waits
        config = {
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": api.url}}],
            "users": [{"name": "me", "user": {"token": "abc"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "team"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setenv("KUBECONFIG", str(path))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield api


def test_a_cluster(
    api: KubernetesApi,
    server: Any,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(AUTHORIZATION, SECRET)
    settings = ServiceSettings(claims={"bundles": str(tiny_bundle.parent)})
    caplog.set_level("DEBUG", logger="caloforge")
    deployment = deploy(tiny_bundle, name="calo", backend="kserve", settings=settings)
    assert deployment.url == server.url
    assert deployment.figures["max_relative_difference"] <= TOLERANCE
    (service,) = api.of("inferenceservices")
    assert service["metadata"]["namespace"] == "team", "the context's"
    assert "pvc://bundles/vae" in json.dumps(service)
    assert SECRET not in json.dumps(service) + caplog.text


def test_the_component_in_a_pipeline(
    api: KubernetesApi, server: Any, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, as on a cluster."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(AUTHORIZATION, SECRET)
    settings = {"claims": {"bundles": str(tiny_bundle.parent)}}

    @dsl.pipeline
    def deploying(bundle: str, settings: str) -> str:  # type: ignore[empty-body]
        imported = dsl.importer(artifact_uri=bundle, artifact_class=dsl.Model).output
        return component(bundle=imported, name="calo", backend="kserve", settings=settings, run="r").outputs["url"]

    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(tmp_path / "root"),
        workspace_root=tempfile.mkdtemp(dir=tmp_path),
    )
    result = deploying(bundle=str(tiny_bundle), settings=json.dumps(settings))
    assert result.output == server.url
    (service,) = api.of("inferenceservices")
    assert service["metadata"]["annotations"]["caloforge/run"] == "r"
    written = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    assert any("max_relative_difference" in path.read_text() for path in written)
    assert not [path for path in written if SECRET in path.read_text()]


def test_a_path_that_no_cluster_reads_is_refused_before_all(api: KubernetesApi, tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="a path of this machine"):
        deploy(tiny_bundle, name="calo", backend="kserve")
    assert not api.requests


def test_the_command(api: KubernetesApi, server: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    settings = tmp_path / "service.yaml"
    settings.write_text("mode: Standard\ncpu: 500m\n")
    command = ["deploy", "--bundle", str(tiny_bundle), "--backend", "kserve", "--settings", str(settings)]
    assert "needs --name" in CliRunner().invoke(main, command).stderr
    command += ["--name", "calo", "--namespace", "other", "--context", "here", "--header", "Host: calo.example.org"]
    refused = CliRunner().invoke(main, [*command, "--uri", "ftp://somewhere"])
    assert refused.exit_code == 2
    assert "ftp://somewhere: KServe cannot read there" in refused.stderr
    result = CliRunner().invoke(main, [*command, "--uri", "minio://bucket/bundle"])
    assert result.exit_code == 0, result.stderr
    assert f"url={server.url}\n" in result.stdout
    assert "max_relative_difference=" in result.stdout
    (service,) = api.of("inferenceservices")
    assert service["metadata"]["namespace"] == "other"
    assert "s3://bucket/bundle" in json.dumps(service)


def test_a_pod_deploys_by_itself(
    api: KubernetesApi, server: Any, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.place.in_pod", lambda: True)
    assert deploy(tiny_bundle, name="calo", uri="s3://bucket/bundle").url == server.url
    assert api.of("inferenceservices")


def test_an_unknown_backend(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="unknown backend 'kserver'; did you mean 'kserve'"):
        deploy(tiny_bundle, name="calo", backend="kserver")


def test_a_laptop_serves_here(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.serving.deploy.smoke_test", lambda bundle, *, seed: {"seed": float(seed)})
    for options in ({"name": "calo"}, {"name": "calo", "backend": "local"}, {"backend": "kserve"}):
        deployment = deploy(tiny_bundle, seed=3, **options)  # type: ignore[arg-type]
        assert deployment.url == ""
        assert deployment.figures == {"seed": 3.0}
