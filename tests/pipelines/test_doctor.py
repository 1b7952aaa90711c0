"""A healthy cluster on the local API server, and one fault after the other."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kfp_api
import pytest
import yaml
from click.testing import CliRunner
from kfp_api import KfpApi
from kubernetes_api import KubernetesApi, kubeconfig, running
from local_server import QuietHandler, listening

from caloforge.cli import main
from caloforge.pipelines.doctor import CLUSTER_CHECKS, SERVICE_CHECKS, examine, failed, findings_table, uses
from caloforge.pipelines.doctor_services import parse_image
from caloforge.pipelines.findings import Finding
from caloforge.pipelines.kubeflow import COOKIES, HOST, TOKEN
from caloforge.pipelines.settings import PipelineSettings

SECRET = "planted-8f2c"
GROUPS = {
    "serving.kserve.io": {"v1beta1": ["inferenceservices"]},
    "kubeflow.org": {"v1beta1": ["experiments", "trials"]},
    "trainer.kubeflow.org": {"v1alpha1": ["trainjobs", "clustertrainingruntimes"]},
}
LABELS = {
    "katib.kubeflow.org/metrics-collector-injection": "enabled",
    "app.kubernetes.io/part-of": "kubeflow-profile",
}
SETTINGS = {
    "namespace": "team",
    "deploy": "calo",
    "pod": {
        "claims": {"data": "/data"},
        "secret_env": {"AWS_ACCESS_KEY_ID": {"secret": "s3", "key": "id"}},
        "image_pull_secrets": ["registry"],
    },
    "resources": {"train": {"gpus": 2, "node_selector": {"zone": "a"}, "tolerations": [{"key": "nvidia.com/gpu"}]}},
}

Alter = Callable[[KubernetesApi], Any]


class Registry:
    """Holds one image, and lets everybody in who asks for a token first."""

    def __init__(self) -> None:
        self.tags = {"1.0"}
        self.private = False
        self.url = ""

    def status(self, path: str, authorization: str | None) -> int:
        if path.startswith("/token"):
            return 403 if self.private else 200
        if authorization != "Bearer given":
            return 401
        return 200 if path.rpartition("/")[2] in self.tags else 404


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()

    class Handler(QuietHandler):
        def _serve(self) -> None:
            status = registry.status(self.path, self.headers["Authorization"])
            content = b'{"token": "given"}' if self.path.startswith("/token") else b""
            self.send_response(status)
            if status == 401:
                realm = f"http://{registry.url}/token"
                self.send_header(
                    "WWW-Authenticate", f'Bearer realm="{realm}",service="us",scope="repository:ours:pull"'
                )
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = _serve

    with listening(Handler) as url:
        registry.url = url.removeprefix("http://")
        yield registry


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpApi]:
    for name in (HOST, TOKEN, COOKIES, "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(TOKEN, SECRET)
    with kfp_api.running(KfpApi(token=SECRET)) as api:
        yield api


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    kinds = (
        "serviceaccounts",
        "storageclasses",
        "persistentvolumeclaims",
        "secrets",
        "nodes",
        "clustertrainingruntimes",
    )
    with running(KubernetesApi(*kinds)) as api:
        api.groups = {group: dict(versions) for group, versions in GROUPS.items()}
        api.add("namespaces", {"metadata": {"name": "team", "labels": dict(LABELS)}}, namespace="")
        api.add("serviceaccounts", {"metadata": {"name": "default-editor"}}, namespace="team")
        default = {"storageclass.kubernetes.io/is-default-class": "true"}
        api.add("storageclasses", {"metadata": {"name": "standard", "annotations": default}}, namespace="")
        claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": "Bound"}}
        api.add("persistentvolumeclaims", claim, namespace="team")
        secret = base64.b64encode(SECRET.encode()).decode()
        api.add("secrets", {"metadata": {"name": "s3"}, "data": {"id": secret}}, namespace="team")
        api.add("secrets", {"metadata": {"name": "registry"}, "data": {}}, namespace="team")
        node = {
            "metadata": {"name": "gpu-1", "labels": {"zone": "a"}},
            "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"nvidia.com/gpu": "4"}},
        }
        api.add("nodes", node, namespace="")
        api.add("clustertrainingruntimes", {"metadata": {"name": "torch-distributed"}}, namespace="")
        path = kubeconfig(api, tmp_path, namespace="team", token=SECRET)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
        monkeypatch.setattr("caloforge.pipelines.doctor.PATIENCE_SECONDS", 0.0)
        yield api


@pytest.fixture
def settings(registry: Registry) -> PipelineSettings:
    return PipelineSettings.parse({**SETTINGS, "image": f"{registry.url}/ours:1.0"}, where="settings")


def of(found: dict[str, list[Finding]], name: str, state: str) -> str:
    return "\n".join(f"{f.text} -> {f.fix}" for f in found[name] if f.state == state)


def test_a_healthy_cluster(api: KubernetesApi, kfp: KfpApi, settings: PipelineSettings) -> None:
    found = examine(settings=settings, host=kfp.url)
    assert {f.state for findings in found.values() for f in findings} == {"ok"}, findings_table(found)
    assert not failed(found)
    assert SECRET not in findings_table(found)
    assert "may serve the winner (7 verbs)" in findings_table(found)
    assert set(found) == {"cluster", *CLUSTER_CHECKS, *SERVICE_CHECKS}


def _without(plural: str, namespace: str, name: str) -> Alter:
    return lambda api: api.objects.pop((plural, namespace, name))


def _node(**changes: Any) -> Alter:
    return lambda api: api.objects["nodes", "", "gpu-1"].update(changes)


@pytest.mark.parametrize(
    ("alter", "check", "said"),
    [
        (
            lambda api: api.groups.pop("serving.kserve.io"),
            "products",
            r"KServe.* is not installed.*helm install kserve",
        ),
        (
            lambda api: api.groups.update({"serving.kserve.io": {"v1": ["inferenceservices"]}}),
            "products",
            "is not there, but serving.kserve.io in v1",
        ),
        (
            lambda api: api.denied.add(("", "create", "inferenceservices")),
            "rights",
            "you may not create inferenceservices.serving.kserve.io in team.*apply -k manifests/overlays/profile/admin",
        ),
        (
            lambda api: api.denied.update({("default-editor", "get", "pods/log"), ("default-editor", "list", "pods")}),
            "account",
            "default-editor may not list pods, get pods/log in team",
        ),
        (
            _without("serviceaccounts", "team", "default-editor"),
            "account",
            "as which the steps run, is not in namespace",
        ),
        (_without("namespaces", "", "team"), "namespace", "namespace team is not there"),
        (_without("persistentvolumeclaims", "team", "data"), "storage", "claim data is not in.*kubectl apply"),
        (
            lambda api: api.objects["persistentvolumeclaims", "team", "data"]["status"].update(phase="Lost"),
            "storage",
            "claim data has lost its volume",
        ),
        (
            _without("secrets", "team", "s3"),
            "secrets",
            "Secret s3 is not in.*kubectl create secret generic s3 --namespace team --from-literal=id=...",
        ),
        (lambda api: api.objects["secrets", "team", "s3"].update(data={"ID": "eA=="}), "secrets", "has no entry id"),
        (_node(status={"allocatable": {"nvidia.com/gpu": "1"}}), "nodes", "train: 2 x nvidia.com/gpu.*with 1 nvidia"),
        (_node(metadata={"name": "gpu-1", "labels": {"zone": "b"}}), "nodes", "without label zone=a"),
        (_node(spec={"taints": [{"key": "other", "effect": "NoSchedule"}]}), "nodes", "with the taint other:NoSched"),
        (_without("nodes", "", "gpu-1"), "nodes", "there are no nodes"),
    ],
)
def test_what_is_wrong_is_said_with_its_fix(
    alter: Alter, check: str, said: str, api: KubernetesApi, kfp: KfpApi, settings: PipelineSettings
) -> None:
    alter(api)
    found = examine(settings=settings, host=kfp.url)
    assert failed(found)
    assert re.search(said, of(found, check, "failed"))
    assert all(finding.fix for findings in found.values() for finding in findings if finding.state == "failed")


@pytest.mark.parametrize(
    ("alter", "check", "said"),
    [
        (lambda api: api.groups.pop("kubeflow.org"), "products", "Katib.*is not installed"),
        (lambda api: api.denied.add(("", "create", "trainjobs")), "rights", "you may not create trainjobs"),
        (
            lambda api: api.objects["namespaces", "", "team"]["metadata"].update(labels={}),
            "namespace",
            "kubectl label namespace team katib.kubeflow.org/metrics-collector-injection=enabled",
        ),
        (_without("storageclasses", "", "standard"), "storage", "no default storage class"),
        (_without("clustertrainingruntimes", "", "torch-distributed"), "runtime", "torch-distributed is not there"),
    ],
)
def test_what_the_settings_do_not_ask_for_is_no_failure(
    alter: Alter, check: str, said: str, api: KubernetesApi, kfp: KfpApi, settings: PipelineSettings
) -> None:
    alter(api)
    settings = settings.model_copy(update={"service_account": "default-editor"})
    found = examine(settings=settings, host=kfp.url)
    assert not failed(found), findings_table(found)
    assert re.search(said, of(found, check, "warning"))


def test_without_settings_all_must_work(api: KubernetesApi, kfp: KfpApi) -> None:
    api.groups.pop("kubeflow.org")
    api.objects.pop(("clustertrainingruntimes", "", "torch-distributed"))
    found = examine(host=kfp.url)
    assert "Katib" in of(found, "products", "failed")
    assert "torch-distributed" in of(found, "runtime", "failed")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, set()),
        ({"deploy": "calo"}, {"deploy"}),
        ({"tuning": {"trials": 5}}, {"tune"}),
        ({"tuning": {"trials": 5, "backend": "local"}}, set()),
        ({"tuning": {"trials": 5, "backend": "optimizationjob"}}, {"search"}),
        ({"distributed": {"nodes": 2}}, {"distribute"}),
    ],
)
def test_what_settings_ask_for(values: dict[str, Any], wanted: set[str]) -> None:
    assert uses(PipelineSettings.parse(values, where="settings")) == wanted


@pytest.mark.parametrize(
    ("plural", "check"),
    [
        ("nodes", "nodes"),
        ("storageclasses", "storage"),
        ("secrets", "secrets"),
        ("namespaces", "namespace"),
        ("persistentvolumeclaims", "storage"),
        ("clustertrainingruntimes", "runtime"),
    ],
)
def test_what_may_not_be_seen_is_not_called_wrong(
    plural: str,
    check: str,
    api: KubernetesApi,
    kfp: KfpApi,
    settings: PipelineSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = api.answer

    def forbid(method: str, address: str, body: Any) -> tuple[int, Any]:
        last = [part for part in address.split("/") if part not in ("team", "torch-distributed")]
        if method == "GET" and (last[-1] == plural or last[-2] == plural):
            return 403, {"message": "forbidden"}
        return answer(method, address, body)

    monkeypatch.setattr(api, "answer", forbid)
    found = examine(settings=settings, host=kfp.url)
    assert not failed(found), findings_table(found)
    assert "may not be" in of(found, check, "unknown")


def test_rights_of_others_may_not_be_asked_for(api: KubernetesApi, kfp: KfpApi, settings: PipelineSettings) -> None:
    api.reviewable = False
    found = examine(settings=settings, host=kfp.url)
    can = "kubectl auth can-i --list --as=system:serviceaccount:team:default-editor --namespace team"
    assert can in of(found, "account", "unknown")


def test_a_standalone_installation(api: KubernetesApi, kfp: KfpApi, registry: Registry) -> None:
    label = {key: value for key, value in LABELS.items() if "katib" in key}
    api.add("namespaces", {"metadata": {"name": "kubeflow", "labels": label}}, namespace="")
    api.add("serviceaccounts", {"metadata": {"name": "pipeline-runner"}}, namespace="kubeflow")
    api.denied.add(("pipeline-runner", "create", "inferenceservices"))
    settings = PipelineSettings(image=f"{registry.url}/ours:1.0", deploy="calo")
    found = examine(settings=settings, namespace="kubeflow", host=kfp.url)
    assert "apply -k manifests/overlays/standalone" in of(found, "account", "failed")


@pytest.mark.parametrize(("script", "said"), [([401], "401"), ([503] * 50, "has not answered")])
def test_an_api_server_that_does_not_let_us_in(
    script: list[int | str], said: str, api: KubernetesApi, kfp: KfpApi, settings: PipelineSettings
) -> None:
    api.script = script
    found = examine(settings=settings, host=kfp.url)
    assert said in of(found, "cluster", "failed")
    assert {finding.state for name in CLUSTER_CHECKS for finding in found[name]} == {"unknown"}
    assert of(found, "pipelines", "ok")


@pytest.fixture
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))


@pytest.mark.usefixtures("no_cluster")
def test_without_a_cluster_it_says_what_it_could_not_check(settings: PipelineSettings) -> None:
    found = examine(settings=settings)
    assert not failed(found)
    for name in CLUSTER_CHECKS:
        assert "Not asked" in of(found, name, "unknown")
    assert "give --host" in of(found, "pipelines", "unknown")
    assert of(found, "image", "ok")
    assert failed(examine(settings=settings, context="there")), "a cluster that was asked for"


@pytest.mark.usefixtures("no_cluster")
def test_kubeflow_pipelines(kfp: KfpApi, settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Kubeflow Pipelines" in of(examine(settings=settings, host=kfp.url), "pipelines", "ok")
    kfp.version = "2.5.0"
    assert "too old" in of(examine(settings=settings, host=kfp.url), "pipelines", "failed")
    kfp.version = ""
    assert "of unknown version" in of(examine(settings=settings, host=kfp.url), "pipelines", "ok")
    monkeypatch.setenv(TOKEN, "expired-3d9a")
    said = of(examine(settings=settings, host=kfp.url), "pipelines", "failed")
    assert "does not know who asks" in said
    assert "expired-3d9a" not in said
    assert "cannot be reached" in of(examine(settings=settings, host="http://127.0.0.1:9"), "pipelines", "failed")


@pytest.mark.usefixtures("no_cluster")
def test_the_image(registry: Registry) -> None:
    def said(image: str, state: str) -> str:
        return of(examine(settings=PipelineSettings(image=image)), "image", state)

    assert "is in its registry" in said(f"{registry.url}/ours:1.0", "ok")
    assert "is not in its registry -> docker build" in said(f"{registry.url}/ours:2.0", "failed")
    registry.private = True
    assert "nodes need a password then: image_pull_secrets" in said(f"{registry.url}/ours:1.0", "unknown")
    assert "cannot be reached from here" in said("127.0.0.1:9/ours:1.0", "unknown")


@pytest.mark.parametrize(
    ("image", "parsed"),
    [
        ("python:3.11", ("registry-1.docker.io", "library/python", "3.11")),
        ("team/ours", ("registry-1.docker.io", "team/ours", "latest")),
        ("ghcr.io/a/b/c:1", ("ghcr.io", "a/b/c", "1")),
        ("localhost/ours:1", ("localhost", "ours", "1")),
        ("registry.org:5000/ours:1@sha256:ab", ("registry.org:5000", "ours", "sha256:ab")),
    ],
)
def test_names_of_images(image: str, parsed: tuple[str, str, str]) -> None:
    assert parse_image(image) == parsed


def test_the_command(
    api: KubernetesApi, kfp: KfpApi, settings: PipelineSettings, tmp_path: Path, registry: Registry
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "image": f"{registry.url}/ours:1.0"}))
    command = ["doctor", "--settings", str(path), "--context", "here", "--host", kfp.url]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "0 failed" in result.output
    api.objects.pop(("secrets", "team", "s3"))
    result = CliRunner().invoke(main, [*command, "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["secrets"][1]["state"] == "failed"
