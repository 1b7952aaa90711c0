"""A healthy cluster on the local API server, and one fault after the other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from healthy_cluster import LABELS, SECRET, SETTINGS, Alter, Registry, node, of
from kfp_api import KfpApi
from kubernetes_api import KubernetesApi

from caloforge.cli import main
from caloforge.pipelines.doctor.doctor import (
    CLUSTER_CHECKS,
    SERVICE_CHECKS,
    examine,
    exit_code,
    failed,
    findings_table,
    uses,
)
from caloforge.pipelines.doctor.image import parse_image
from caloforge.pipelines.kubeflow.client import TOKEN
from caloforge.pipelines.settings import PipelineSettings

pytestmark = pytest.mark.slow


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
            "KServe is newer than is known here: it has serving.kserve.io in v1, we speak v1beta1.*pip install",
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
        (_node(status=node("gpu-1", gpus=1)["status"]), "nodes", "train: 2 x nvidia.com/gpu.*with 1 nvidia"),
        (_node(metadata={"name": "gpu-1", "labels": {"zone": "b"}}), "nodes", "without label zone=a"),
        (_node(spec={"taints": [{"key": "other", "effect": "NoSchedule"}]}), "nodes", "with the taint other:NoSched"),
        (
            lambda api: [api.objects.pop(("nodes", "", name)) for name in ("cpu-1", "gpu-1")],
            "nodes",
            "there are no nodes",
        ),
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


def _trainer_schema(*fields: str) -> dict[str, Any]:
    """The part of /openapi/v3 that says what a TrainJob may hold."""
    spec = {"type": "object", "properties": {field: {} for field in ("runtimeRef", "trainer", *fields)}}
    kind = {"group": "trainer.kubeflow.org", "kind": "TrainJob", "version": "v1alpha1"}
    schema = {"type": "object", "properties": {"spec": spec}, "x-kubernetes-group-version-kind": [kind]}
    others = {"io.k8s.apimachinery.pkg.apis.meta.v1.Status": {"type": "object"}}
    return {"components": {"schemas": {**others, "org.kubeflow.trainer.v1alpha1.TrainJob": schema}}}


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (lambda api: api.groups.pop("serving.kserve.io"), "KServe is not installed"),
        (lambda api: api.groups.pop("kubeflow.org"), "Katib is not installed"),
        # A Kubeflow without Katib has other kinds in its group, and of its version.
        (
            lambda api: api.groups.update({"kubeflow.org": {"v1": ["profiles"], "v1beta1": ["profiles"]}}),
            "Katib is not installed",
        ),
        (lambda api: api.groups.pop("trainer.kubeflow.org"), "Kubeflow Trainer 2 is not installed"),
        (
            lambda api: api.groups.update({"serving.kserve.io": {"v1alpha2": ["inferenceservices"]}}),
            "KServe is older than is known here: it has serving.kserve.io in v1alpha2, we speak v1beta1.*helm install",
        ),
        (
            lambda api: api.groups.update({"kubeflow.org": {"v1alpha3": ["experiments", "trials"]}}),
            "Katib is older than is known here",
        ),
        (
            lambda api: api.groups.update({"kubeflow.org": {"v1": ["experiments", "trials"], "v1beta1": ["profiles"]}}),
            "Katib is newer than is known here.*kubeflow.org in v1,.*pip install --upgrade caloforge",
        ),
        (
            lambda api: api.groups.update({"trainer.kubeflow.org": {"v1beta1": ["trainjobs"]}}),
            "Kubeflow Trainer 2 is newer than is known here",
        ),
        (
            lambda api: api.openapi.update({"apis/trainer.kubeflow.org/v1alpha1": _trainer_schema("labels")}),
            "Kubeflow Trainer 2 is older than 2.1: its TrainJobs cannot give pods volumes",
        ),
        (
            lambda api: [
                api.groups.pop("trainer.kubeflow.org"),
                api.groups.update({"kubeflow.org": {"v1": ["pytorchjobs"], "v1beta1": ["experiments", "trials"]}}),
            ],
            "only the Training Operator 1, which has no TrainJobs",
        ),
    ],
)
def test_a_product_that_is_missing_older_or_newer_is_one_finding(alter: Alter, said: str, api: KubernetesApi) -> None:
    alter(api)
    findings = examine()["products"]
    assert len(findings) == 3, "one for KServe, one for Katib, one for Trainer"
    assert [finding.state for finding in findings].count("failed") == 1
    assert re.search(said, of({"products": findings}, "products", "failed"))


@pytest.mark.parametrize("field", ["podTemplateOverrides", "runtimePatches"])
def test_a_trainer_that_gives_pods_volumes(field: str, api: KubernetesApi) -> None:
    api.openapi["apis/trainer.kubeflow.org/v1alpha1"] = _trainer_schema(field)
    assert "Kubeflow Trainer 2: trainjobs" in of(examine(), "products", "ok")


def test_the_account_of_the_server(api: KubernetesApi, settings: PipelineSettings) -> None:
    service = settings.service.model_copy(update={"service_account": "caloforge"})
    found = examine(settings=settings.model_copy(update={"service": service}))
    assert "ServiceAccount caloforge, as which the server runs, is not in namespace team" in of(
        found, "account", "failed"
    )


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
    api.script = list(script)
    found = examine(settings=settings, host=kfp.url, context="here")
    assert said in of(found, "cluster", "failed")
    assert {finding.state for name in CLUSTER_CHECKS for finding in found[name]} == {"unknown"}
    assert of(found, "pipelines", "ok")
    api.script = list(script)
    found = examine(settings=settings, host=kfp.url)
    assert said in of(found, "cluster", "unknown"), "a run needs no cluster that nobody asked for"
    assert exit_code(found) == 0


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
    kfp.version = "2.31.0"
    assert "newer than 2.17" in of(examine(settings=settings, host=kfp.url), "pipelines", "warning")
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
    assert json.loads(result.stdout)["secrets"][0]["state"] == "failed"


def test_how_the_command_ends(api: KubernetesApi, kfp: KfpApi, tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "image": f"{registry.url}/ours:1.0"}))
    command = ["doctor", "--settings", str(path), "--host", kfp.url]
    assert CliRunner().invoke(main, [*command, "--strict"]).exit_code == 0
    api.objects.pop(("storageclasses", "", "standard"))
    assert CliRunner().invoke(main, command).exit_code == 0
    result = CliRunner().invoke(main, [*command, "--strict"])
    assert result.exit_code == 4
    assert "0 failed, 1 warnings" in result.output
    api.objects.pop(("secrets", "team", "s3"))
    assert CliRunner().invoke(main, [*command, "--strict"]).exit_code == 1


@pytest.mark.usefixtures("no_cluster")
def test_it_does_not_end_well_when_nothing_could_be_asked(
    kfp: KfpApi, settings: PipelineSettings, registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "image": f"{registry.url}/ours:1.0"}))
    result = CliRunner().invoke(main, ["doctor", "--settings", str(path)])
    assert result.exit_code == 3
    assert "neither the cluster nor Kubeflow Pipelines could be asked" in result.output
    result = CliRunner().invoke(main, ["doctor", "--settings", str(path), "--host", kfp.url])
    assert result.exit_code == 0, "a token for Kubeflow Pipelines alone is enough"
    assert "neither" not in result.output


@pytest.mark.usefixtures("no_cluster")
def test_tokens_and_cookies_come_from_files(kfp: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN)
    token, cookies = tmp_path / "token", tmp_path / "cookies"
    token.write_text(f"{SECRET}\n")
    cookies.write_text("authservice_session=planted-cookie\n")
    command = ["doctor", "--host", kfp.url]
    assert "does not know who asks" in CliRunner().invoke(main, command).output
    result = CliRunner().invoke(main, [*command, "--token-file", str(token), "--cookies-file", str(cookies)])
    assert "Kubeflow Pipelines 2.15.0" in result.output
    assert "planted" not in result.output
    assert kfp.requests[-1][3]["cookie"] == "authservice_session=planted-cookie"
    result = CliRunner().invoke(main, [*command, "--token-file", str(tmp_path / "none")])
    assert "cannot be read" in result.output
