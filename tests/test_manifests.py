"""The manifests are what the code writes, kustomize can join them, and each API knows every field."""

import re
import warnings
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import kubernetes.client.models
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from kubeflow_katib_api.models import V1beta1Experiment
from kubernetes_api import KubernetesApi, kubeconfig, running
from kustomization import build

from caloforge import __version__
from caloforge.cli import main
from caloforge.components.image import IMAGE
from caloforge.errors import InputError
from caloforge.pipelines.manifests.examples import DEFAULT_REQUESTS
from caloforge.pipelines.manifests.manifests import OVERLAYS, manifests, write_manifests
from caloforge.pipelines.manifests.products import PARTS
from caloforge.pipelines.manifests.rights import RIGHTS
from caloforge.pipelines.settings import PipelineSettings
from caloforge.pods import Pod
from caloforge.serving.inference_service import ServiceSettings, inference_service
from caloforge.tuning.rules import check_experiment

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of fastapi and protobuf, while kserve is imported
    import kserve.models

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "manifests"
WRITTEN = manifests(PipelineSettings())
OBJECTS = sorted(path for path in WRITTEN if not path.endswith("kustomization.yaml"))
BUILT = sorted(str(Path(path).parent) for path in WRITTEN if path.endswith("kustomization.yaml"))
KSERVE = {"ServingRuntime": "V1alpha1ServingRuntime", "InferenceService": "V1beta1InferenceService"}
# No package has models of these; what is known of them is what we write.
WITHOUT_MODELS = {
    "AuthorizationPolicy": {"selector", "action", "rules"},
    "PodDefault": {"desc", "selector", "env", "volumes", "volumeMounts"},
}
KUBERNETES = "1.32"


def check_fields(value: Any, type_name: str, where: str) -> None:
    """Walk through an object along the client library's models; an unknown field or a wrong type fails."""
    if match := re.fullmatch(r"(list|dict)[\[(](?:str, )?(.+)[\])]", type_name):
        assert isinstance(value, list if match[1] == "list" else dict), f"{where}: expected a {match[1]}"
        items = enumerate(value) if match[1] == "list" else value.items()
        for key, item in items:
            check_fields(item, match[2], f"{where}[{key}]")
        return
    model = getattr(kserve.models, type_name, None) or getattr(kubernetes.client.models, type_name, None)
    if model is None:
        scalar = {"str": str, "int": int, "bool": bool}.get(type_name)
        assert scalar is None or type(value) is scalar, f"{where}: expected {type_name}, got {value!r}"
        return
    fields = {json_name: model.openapi_types[name] for name, json_name in model.attribute_map.items()}
    for key, item in value.items():
        assert key in fields, f"{where}: {type_name} has no field {key!r}"
        check_fields(item, fields[key], f"{where}.{key}")


def check_object(content: Any, where: str) -> None:
    kind = content["kind"]
    if kind in KSERVE:
        check_fields(content, KSERVE[kind], where)
    elif kind == "Experiment":
        check_experiment(content)
        assert V1beta1Experiment.from_dict(content).to_dict() == content, "the model dropped what it does not know"
    elif kind in WITHOUT_MODELS:
        assert set(content["spec"]) == WITHOUT_MODELS[kind]
    else:
        kubernetes_validate.validate(content, KUBERNETES, strict=True)


def test_the_folder_is_what_the_command_writes(tmp_path: Path) -> None:
    """After a wanted change: ``caloforge manifests -o manifests``."""
    write_manifests(tmp_path)
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.yaml")}
    kept = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*.yaml")}
    assert kept == written


@pytest.mark.parametrize("path", OBJECTS)
def test_every_manifest_is_a_known_object(path: str) -> None:
    check_object(yaml.safe_load(WRITTEN[path]), path)


@pytest.mark.parametrize(
    "settings",
    [
        ServiceSettings(runtime="caloforge", mode="Standard", gpus=1),
        ServiceSettings(
            secret_volumes={"krb5": "/krb5"},
            node_selector={"a": "b"},
            tolerations=({"key": "gpu", "effect": "NoExecute", "seconds": 5},),
            annotations={"a": "b"},
            service_account="reader",
            image_pull_secrets=("registry",),
            shm="1Gi",
        ),
    ],
)
def test_every_service_is_a_known_object(settings: ServiceSettings) -> None:
    check_object(inference_service("calo", "s3://bucket/bundle", settings), "service")


@pytest.mark.parametrize("folder", BUILT)
def test_kustomize_joins_them(folder: str) -> None:
    objects = build(FOLDER / folder)
    for item in objects:
        check_object(item, folder)


def test_no_manifest_is_left_out() -> None:
    for path in OBJECTS:
        folder, name = Path(path).parent, Path(path).name
        assert name in yaml.safe_load(WRITTEN[str(folder / "kustomization.yaml")])["resources"]


KNOWN_EVERYWHERE = {
    "LimitRange", "Namespace", "NetworkPolicy", "PersistentVolumeClaim", "ResourceQuota", "Role", "RoleBinding",
    "Secret", "ServiceAccount",
}  # fmt: skip
"""Kinds of Kubernetes' own."""


def kinds(folder: Path) -> set[str]:
    return {item["kind"] for item in build(folder)}


@pytest.mark.parametrize("folder", ["overlays/standalone", "overlays/profile/admin", "examples/quota"])
def test_they_apply_where_only_pipelines_are_installed(folder: str) -> None:
    assert kinds(FOLDER / folder) <= KNOWN_EVERYWHERE


@pytest.mark.parametrize("overlay", ["standalone", "profile"])
def test_overlays_apply_without_what_is_left_out(overlay: str, tmp_path: Path) -> None:
    settings = PipelineSettings(service=ServiceSettings(runtime="caloforge"))
    write_manifests(tmp_path, settings=settings)
    write_manifests(tmp_path / "bare", settings=settings, without=PARTS)
    assert kinds(tmp_path / "bare/overlays" / overlay) <= KNOWN_EVERYWHERE
    assert kinds(tmp_path / "bare/examples") <= KNOWN_EVERYWHERE
    assert "ServingRuntime" in kinds(tmp_path / "overlays" / overlay)
    assert kinds(tmp_path / "bare/overlays" / overlay) < kinds(tmp_path / "overlays" / overlay)


@pytest.mark.parametrize(
    ("part", "left_out"),
    [
        ("kserve", {"NetworkPolicy", "InferenceService"}),
        ("katib", {"Namespace", "Experiment"}),
        ("istio", {"AuthorizationPolicy"}),
        ("trainer", set()),
    ],
)
def test_each_product_is_left_out_by_itself(part: str, left_out: set[str], tmp_path: Path) -> None:
    write_manifests(tmp_path, without=[part])
    folders = ("overlays/standalone", "overlays/profile", "overlays/profile/admin", "examples")
    there = {kind for folder in folders for kind in kinds(FOLDER / folder)}
    assert {kind for folder in folders for kind in kinds(tmp_path / folder)} == there - left_out


def test_the_policies_are_for_all_servers() -> None:
    runtime = yaml.safe_load(WRITTEN["components/runtime/servingruntime.yaml"])
    service = yaml.safe_load(WRITTEN["examples/inferenceservice.yaml"])
    network = yaml.safe_load(WRITTEN["components/kserve/networkpolicy.yaml"])["spec"]["podSelector"]
    mesh = yaml.safe_load(WRITTEN["components/istio/authorizationpolicy.yaml"])["spec"]["selector"]
    for labels in (runtime["spec"]["labels"], service["spec"]["predictor"]["labels"]):
        for selector in (network, mesh):
            assert selector.keys() == {"matchLabels"}
            assert selector["matchLabels"].items() <= labels.items()


def test_the_role_has_no_verbs_for_what_is_left_out() -> None:
    def groups(*without: str) -> set[str]:
        role = manifests(PipelineSettings(), without=without)["rbac/role.yaml"]  # type: ignore[arg-type]
        return {group for rule in yaml.safe_load(role)["rules"] for group in rule["apiGroups"]}

    every = {"", "kubeflow.org", "serving.kserve.io", "trainer.kubeflow.org"}
    assert groups() == groups("istio") == every
    assert groups("katib") == every - {"kubeflow.org"}
    assert groups("kserve", "trainer") == {"", "kubeflow.org"}


def test_katibs_label_is_on_the_namespace_of_the_overlay() -> None:
    for folder, name in (("overlays/standalone", "kubeflow"), ("overlays/profile/admin", "my-profile")):
        (namespace,) = [item for item in build(FOLDER / folder) if item["kind"] == "Namespace"]
        assert namespace["metadata"]["name"] == name
        assert namespace["metadata"]["labels"]["katib.kubeflow.org/metrics-collector-injection"] == "enabled"


def test_the_quota_comes_with_its_limit_range() -> None:
    quota_folder = FOLDER / "examples/quota"
    by_kind = {item["kind"]: item for item in build(quota_folder)}
    counted = {name.removeprefix("requests.") for name in by_kind["ResourceQuota"]["spec"]["hard"]}
    (limit,) = by_kind["LimitRange"]["spec"]["limits"]
    assert limit == {"type": "Container", "defaultRequest": DEFAULT_REQUESTS}
    assert counted & {"cpu", "memory"} == set(DEFAULT_REQUESTS)
    assert {"LimitRange", "ResourceQuota"} <= kinds(FOLDER / "examples")


@pytest.mark.parametrize(
    ("folder", "namespace", "account"),
    [
        ("overlays/standalone", "kubeflow", "pipeline-runner"),
        ("rbac", "kubeflow", "pipeline-runner"),
        ("overlays/profile/admin", "my-profile", "default-editor"),
    ],
)
def test_the_role_is_bound_to_the_account_of_the_steps(folder: str, namespace: str, account: str) -> None:
    objects = build(FOLDER / folder)
    (binding,) = [item for item in objects if item["kind"] == "RoleBinding"]
    (role,) = [item for item in objects if item["kind"] == "Role"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert {item["metadata"].get("namespace") for item in (binding, role)} == {namespace}


@pytest.mark.parametrize("overlay", ["profile", "cern"])
def test_a_profile_needs_no_administrator(overlay: str) -> None:
    """Profiles' owners may not touch namespaces, and may do all that the role grants already."""
    objects = build(FOLDER / "overlays" / overlay)
    assert not {item["kind"] for item in objects} & {"Namespace", "Role", "RoleBinding"}
    assert {item["metadata"]["namespace"] for item in objects} == {"my-profile"}


def test_references_between_objects_resolve() -> None:
    objects = {
        (item["kind"], item["metadata"]["name"]): item for path in OBJECTS for item in [yaml.safe_load(WRITTEN[path])]
    }
    experiment = objects["Experiment", "tune-vae"]
    pod = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]
    service = objects["InferenceService", "caloforge"]["spec"]["predictor"]
    for spec in (pod["spec"], service):
        assert ("ServiceAccount", spec["serviceAccountName"]) in objects
    for volume in pod["spec"]["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in objects
    for secret in objects["ServiceAccount", "caloforge"]["secrets"]:
        assert ("Secret", secret["name"]) in objects
    selected = objects["NetworkPolicy", "caloforge-server"]["spec"]["podSelector"]["matchLabels"].items()
    assert selected <= service["labels"].items()
    mounting = objects["PodDefault", "caloforge-eos"]["spec"]
    assert ("Secret", mounting["volumes"][1]["secret"]["secretName"]) in objects


def fits(selector: Any, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector of Kubernetes takes something with these labels."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(
        one["key"] in labels and (one["operator"] == "Exists" or labels[one["key"]] in one["values"])
        for one in selector.get("matchExpressions", [])
    )


def enters(namespace: str, labels: Mapping[str, str], port: int) -> bool:
    """Tell whether a pod reaches a port of a server in the namespace ``team``."""
    spec = yaml.safe_load(WRITTEN["components/kserve/networkpolicy.yaml"])["spec"]
    return any(
        {"protocol": "TCP", "port": port} in rule["ports"]
        and any(
            fits(peer["podSelector"], labels)
            and (
                fits(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
                if "namespaceSelector" in peer
                else namespace == "team"
            )
            for peer in rule["from"]
        )
        for rule in spec["ingress"]
    )


@pytest.mark.parametrize(
    ("namespace", "labels", "port", "let_in"),
    [
        ("team", {"pipeline/runid": "1"}, 8080, True),
        ("team", {"notebook-name": "mine"}, 8080, True),
        ("team", {"caloforge/client": "true"}, 8081, True),
        ("team", {"caloforge/client": "true"}, 9091, False),
        ("team", {"caloforge/client": "true"}, 22, False),
        ("team", {"app": "anything"}, 8080, False),
        ("team", {}, 8080, False),
        ("other", {"pipeline/runid": "1"}, 8080, False),
        ("kubeflow", {"app": "ml-pipeline-ui"}, 8080, False),
        ("istio-system", {"istio": "ingressgateway"}, 8080, True),
        ("istio-system", {"istio": "ingressgateway"}, 8081, False),
        ("istio-system", {"app": "istiod"}, 8080, False),
        ("knative-serving", {"app": "activator"}, 8012, True),
        ("kserve", {"gateway.networking.k8s.io/gateway-name": "kserve-ingress-gateway"}, 8080, True),
        ("monitoring", {"app.kubernetes.io/name": "prometheus"}, 8080, True),
        ("monitoring", {"app.kubernetes.io/name": "grafana"}, 8080, False),
    ],
)
def test_who_reaches_a_server(namespace: str, labels: dict[str, str], port: int, let_in: bool) -> None:
    assert enters(namespace, labels, port) == let_in


@pytest.mark.parametrize(
    ("store", "rules"),
    [
        ("http://minio-service.kubeflow:9000", [("kubeflow", {9000, 8333})]),
        ("http://store.data.svc.cluster.local:8000", [("data", {8000, 9000, 8333})]),
        ("https://s3.example.org", []),
        ("http://s3.example.org:9000", [(None, {9000})]),
    ],
)
def test_a_server_s_pod_reaches_names_and_its_store_only(
    tmp_path: Path, store: str, rules: list[tuple[str | None, set[int]]]
) -> None:
    write_manifests(tmp_path, settings=PipelineSettings(pod=Pod(env={"AWS_ENDPOINT_URL": store})))
    spec = yaml.safe_load((tmp_path / "components/kserve/networkpolicy.yaml").read_text())["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    found = []
    for rule in spec["egress"]:
        names = [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in rule.get("to", [])]
        found.append((names[0] if names else None, {port["port"] for port in rule["ports"]}))
    assert found == [(None, {53}), (None, {443}), ("istio-system", {15010, 15012}), *rules]


def matches(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


def allowed(method: str, path: str, *, namespace: str = "", address: str = "10.1.2.3") -> bool:
    """Tell whether Istio lets a request through; without a namespace from a pod without sidecar."""
    spec = yaml.safe_load(WRITTEN["components/istio/authorizationpolicy.yaml"])["spec"]
    assert spec["action"] == "ALLOW"

    def is_from(source: Any) -> bool:
        assert set(source) <= {"namespaces", "notPrincipals", "ipBlocks"}
        return (
            ("namespaces" not in source or namespace in source["namespaces"])
            and ("notPrincipals" not in source or not namespace)
            and ("ipBlocks" not in source or any(ip_address(address) in ip_network(one) for one in source["ipBlocks"]))
        )

    return any(
        any(is_from(one["source"]) for one in rule["from"])
        and any(
            method in one["operation"]["methods"] and any(matches(path_, path) for path_ in one["operation"]["paths"])
            for one in rule["to"]
        )
        for rule in spec["rules"]
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/models/caloforge/infer"),
        ("POST", "/v1/models/caloforge:predict"),
        ("GET", "/v2/models/caloforge/ready"),
        ("GET", "/v2/health/ready"),
        ("POST", "/inference.GRPCInferenceService/ModelInfer"),
    ],
)
def test_istio_lets_through_what_clients_ask(method: str, path: str) -> None:
    assert allowed(method, path)  # a step, which has no sidecar
    assert allowed(method, path, namespace="my-profile")
    assert allowed(method, path, namespace="istio-system")
    assert not allowed(method, path, namespace="another-profile")
    assert not allowed(method, path, address="203.0.113.7")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/models/caloforge/unload"),
        ("POST", "/inference.GRPCInferenceService/RepositoryModelUnload"),
        ("POST", "/v1/models/caloforge:explain"),
        ("DELETE", "/v2/models/caloforge/infer"),
        ("POST", "/v2/models/caloforge/versions/1/infer"),
        ("GET", "/docs"),
    ],
)
def test_istio_lets_nothing_else_through(method: str, path: str) -> None:
    assert not any(allowed(method, path, namespace=one) for one in ("", "my-profile", "istio-system", "monitoring"))


def test_metrics_are_for_who_watches() -> None:
    assert allowed("GET", "/metrics", namespace="monitoring")
    assert not allowed("GET", "/metrics", namespace="another-profile")
    assert not allowed("GET", "/metrics", namespace="my-profile")
    assert not allowed("GET", "/metrics", namespace="istio-system"), "its gateway lets strangers in"
    assert allowed("GET", "/metrics", namespace="knative-serving")
    assert allowed("GET", "/healthz", namespace="istio-system"), "Knative probes a service through its gateway"
    assert not allowed("GET", "/healthz", namespace="monitoring")
    assert not allowed("POST", "/v2/models/caloforge/infer", namespace="monitoring")


def test_the_policy_names_the_namespace_of_the_settings(tmp_path: Path) -> None:
    write_manifests(tmp_path, settings=PipelineSettings(namespace="calo"))
    (policy,) = [item for item in build(tmp_path / "overlays/profile") if item["kind"] == "AuthorizationPolicy"]
    assert "calo" in policy["spec"]["rules"][0]["from"][0]["source"]["namespaces"]
    assert policy["metadata"]["namespace"] == "calo"


def test_servers_and_trials_have_no_token_of_the_cluster() -> None:
    experiment = yaml.safe_load(WRITTEN["examples/experiment.yaml"])
    trial = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    service = yaml.safe_load(WRITTEN["examples/inferenceservice.yaml"])["spec"]["predictor"]
    account = yaml.safe_load(WRITTEN["base/serviceaccount.yaml"])
    by_runtime = inference_service("calo", "s3://bucket/bundle", ServiceSettings(runtime="caloforge"))
    for spec in (trial, service, account, by_runtime["spec"]["predictor"]):
        assert spec["automountServiceAccountToken"] is False


def test_trials_have_no_sidecar() -> None:
    experiment = yaml.safe_load(WRITTEN["examples/experiment.yaml"])
    metadata = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["metadata"]
    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"
    assert metadata["annotations"]["sidecar.istio.io/inject"] == "false"


def test_no_secret_is_in_a_secret() -> None:
    for path in OBJECTS:
        content = yaml.safe_load(WRITTEN[path])
        if content["kind"] == "Secret":
            assert "data" not in content
            assert set(content["stringData"].values()) == {"change-me"}


@pytest.mark.parametrize(
    ("env", "endpoint", "https"),
    [
        ({}, "seaweedfs.kubeflow:9000", "0"),
        ({"AWS_ENDPOINT_URL": "http://minio-service.kubeflow:9000"}, "minio-service.kubeflow:9000", "0"),
        ({"AWS_ENDPOINT_URL": "https://s3.example.org"}, "s3.example.org", "1"),
    ],
)
def test_servers_fetch_from_the_store_of_the_steps(
    tmp_path: Path, env: dict[str, str], endpoint: str, https: str
) -> None:
    write_manifests(tmp_path, settings=PipelineSettings(pod=Pod(env=env)))
    annotations = yaml.safe_load((tmp_path / "secrets/s3-secret.yaml").read_text())["metadata"]["annotations"]
    assert annotations["serving.kserve.io/s3-endpoint"] == endpoint
    assert annotations["serving.kserve.io/s3-usehttps"] == https


def test_the_role_grants_the_table_and_nothing_else() -> None:
    rules = yaml.safe_load(WRITTEN["rbac/role.yaml"])["rules"]
    granted = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {(right.group, right.resource, verb) for right in RIGHTS for verb in right.verbs}
    assert not any("*" in part for one in granted for part in one)


def test_settings_go_in(tmp_path: Path) -> None:
    settings = PipelineSettings(image="registry.org/ours:7", namespace="calo", service_account="worker")
    write_manifests(tmp_path, settings=settings, overlay="cern")
    assert not (tmp_path / "overlays" / "standalone").exists()
    text = "".join(path.read_text() for path in tmp_path.rglob("*.yaml"))
    assert "registry.org/ours:7" in text
    assert IMAGE not in text
    (binding,) = [item for item in build(tmp_path / "overlays/profile/admin") if item["kind"] == "RoleBinding"]
    assert binding["subjects"][0] == {"kind": "ServiceAccount", "name": "worker", "namespace": "calo"}
    assert {item["metadata"]["namespace"] for item in build(tmp_path / "overlays/cern")} == {"calo"}


def test_the_command(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("image: registry.org/ours:7\n")
    command = ["manifests", "-o", str(tmp_path / "out"), "--overlay", "standalone", "--settings", str(settings)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out/overlays/standalone/kustomization.yaml").is_file()
    assert "registry.org/ours:7" in (tmp_path / "out/components/runtime/servingruntime.yaml").read_text()


def test_the_command_leaves_out_products(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["manifests", "-o", str(tmp_path / "out"), "--without", "kserve, istio"])
    assert result.exit_code == 0, result.output
    assert "without istio, kserve" in result.output
    assert not {"NetworkPolicy", "AuthorizationPolicy"} & kinds(tmp_path / "out/overlays/profile")
    result = CliRunner().invoke(main, ["manifests", "-o", str(tmp_path / "none"), "--without", "kserv"])
    assert result.exit_code == 2
    assert "unknown product 'kserv'; did you mean 'kserve'" in result.output
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ({}, "without istio, katib, kserve, trainer"),
        # Kubeflow's own kinds share Katib's group, and a version that we do not speak is as good as none.
        (
            {
                "kubeflow.org": {"v1": ["profiles", "pytorchjobs"], "v1beta1": ["profiles"]},
                "serving.kserve.io": {"v1": ["inferenceservices"]},
                "security.istio.io": {"v1": ["authorizationpolicies"], "v1beta1": ["authorizationpolicies"]},
            },
            "without katib, kserve, trainer",
        ),
    ],
)
def test_the_command_asks_the_cluster(
    installed: dict[str, dict[str, list[str]]], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(KubernetesApi()) as api:
        api.groups = installed
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", kubeconfig(api, tmp_path))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        result = CliRunner().invoke(main, ["manifests", "-o", str(tmp_path / "out"), "--for-cluster"])
    assert result.exit_code == 0, result.output
    assert said in result.output
    if "AuthorizationPolicy" not in kinds(tmp_path / "out/overlays/profile"):
        assert kinds(tmp_path / "out/overlays/profile") <= KNOWN_EVERYWHERE


def test_an_unknown_overlay(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown overlay 'profil'; did you mean 'profile'"):
        write_manifests(tmp_path, overlay="profil")
    assert set(OVERLAYS) >= {"profile"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"readynessProbe": {}}, "V1Container has no field 'readynessProbe'"),
        ({"name": 3}, "expected str, got 3"),
        ({"args": "--bundle"}, "expected a list"),
    ],
)
def test_the_check_finds_what_is_wrong(change: dict[str, Any], message: str) -> None:
    content = yaml.safe_load(WRITTEN["components/runtime/servingruntime.yaml"])
    content["spec"]["containers"][0].update(change)
    with pytest.raises(AssertionError, match=message):
        check_object(content, "servingruntime.yaml")


def test_the_check_of_kubernetes_own_objects_is_strict() -> None:
    content = yaml.safe_load(WRITTEN["base/persistentvolumeclaim.yaml"])
    content["spec"]["accessMode"] = ["ReadWriteOnce"]
    with pytest.raises(kubernetes_validate.ValidationError):
        check_object(content, "persistentvolumeclaim.yaml")


@pytest.mark.parametrize("path", ["docker/README.md", "docker/Dockerfile"])
def test_the_image_has_the_version_of_the_package(path: str) -> None:
    versions = re.findall(r"(?:python-caloforge:|VERSION=)(\d+\.\d+\.\d+)", (ROOT / path).read_text())
    assert versions
    assert set(versions) == {__version__}
