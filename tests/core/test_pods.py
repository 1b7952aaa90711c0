"""All objects that we create: none holds an empty field, and all their pods may run where policies are strict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pod_security import baseline, restricted

from caloforge.errors import InputError
from caloforge.models.training.pod import TrainingPod
from caloforge.models.training.trainjob import build_train_job
from caloforge.pipelines.compile import compile_pipeline
from caloforge.pipelines.manifests.manifests import manifests
from caloforge.pipelines.settings import PipelineSettings
from caloforge.pods import USER, Pod, Toleration, canonical, environment, resources, volumes, without_empty
from caloforge.serving.inference_service import ServiceSettings, inference_service, serving_runtime
from caloforge.tuning.experiment import TrialPod, build_experiment
from caloforge.tuning.optimization_job import build_optimization_job
from caloforge.tuning.rules import check_experiment
from caloforge.tuning.space import load_space

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
RECORDED: dict[str, Object] = json.loads((ROOT / "tests/data/kubeflow/pods_and_policies.json").read_text())
FULL: Object = {
    "cpu": "500m", "cpu_limit": "2", "memory": "1000M", "gpus": 1, "node_selector": {"example.org/gpu": ""},
    "tolerations": (Toleration(), Toleration(key="gpu", operator="Equal", value="", effect="NoExecute", seconds=0)),
    "env": {"A": "b", "EMPTY": ""}, "secret_env": {"KEY": {"secret": "s3", "key": "key"}},
    "secret_volumes": {"krb5": "/krb5"}, "claims": {"data": "/data"}, "shm": "2048Mi", "labels": {"a": "", "b": "c"},
    "annotations": {"a": "b"}, "image_pull_secrets": ("registry",),
}  # fmt: skip
ACCOUNT = {"namespace": "physics", "service_account": "worker"}
MINIMAL: Object = {"env": {}, "claims": {}}


def experiment(full: bool) -> Object:
    pod = TrialPod.model_validate({**FULL, **ACCOUNT} if full else MINIMAL)
    return build_experiment(
        load_space("vae", "demo"), name="tune", objective="fpd", additional=["auc"] if full else [],
        algorithm="tpe" if full else "sobol", seed=1, trials=8, parallel=2, max_failed=2, command=["caloforge"],
        output="/tmp", pod=pod, early_stopping=full,
    )  # fmt: skip


def train_job(full: bool) -> Object:
    pod = TrainingPod.model_validate({**FULL, **ACCOUNT} if full else MINIMAL)
    return build_train_job("train-vae", ["caloforge", "train"], nodes=2, processes=1, pod=pod)


def optimization_job(full: bool) -> Object:
    pod = TrialPod.model_validate({**FULL, **ACCOUNT} if full else MINIMAL)
    return build_optimization_job(
        load_space("vae", "demo"), name="tune", objective="fpd", algorithm="random" if full else "grid", seed=1,
        trials=8, parallel=2, command=["caloforge"], pod=pod,
    )  # fmt: skip


def service(full: bool, **changes: Any) -> Object:
    settings = ServiceSettings.model_validate({**FULL, **ACCOUNT, "mode": "Standard"} if full else MINIMAL)
    return inference_service("calo", "s3://bucket/bundle", settings.model_copy(update=changes))


def runtime(full: bool) -> Object:
    return serving_runtime("caloforge", ServiceSettings.model_validate(FULL if full else MINIMAL))


def of_runtime(full: bool) -> Object:
    return service(full, runtime="caloforge")


BUILDERS = [experiment, train_job, optimization_job, service, of_runtime, runtime]


def empty_fields(value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each empty list or map and of each null, but for those that mean something."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []:
        if item is None or (item in ([], {}) and key not in ("emptyDir", "grid", "podSelector")):
            yield f"{path}/{key}"
        yield from empty_fields(item, f"{path}/{key}")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("build", BUILDERS)
def test_no_object_has_an_empty_field(build: Callable[[bool], Object], full: bool) -> None:
    assert not list(empty_fields(build(full)))


def test_no_manifest_has_an_empty_field() -> None:
    for path, text in manifests(PipelineSettings()).items():
        assert not list(empty_fields(yaml.safe_load(text))), path


@pytest.mark.parametrize("full", [False, True])
def test_kubeflow_is_told_of_no_empty_field(full: bool, tmp_path: Path) -> None:
    """That is, of pods and containers: kfp itself writes empty maps into a pipeline's specification."""
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(PipelineSettings(pod=Pod.model_validate(FULL if full else MINIMAL)), path)
    pipeline, platforms = yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
    assert not list(empty_fields(platforms))
    assert not list(empty_fields(pipeline["deploymentSpec"]))


@pytest.mark.parametrize("full", [False, True])
def test_katib_takes_every_experiment(full: bool) -> None:
    """What the real webhook refused was an empty list; amounts and empty texts are the same to it."""
    check_experiment(experiment(full))


def test_what_is_empty_is_left_out_but_for_what_says_something() -> None:
    given = {
        "env": [], "labels": {"a": ""}, "none": None, "zero": 0, "no": False, "grid": {},
        "inner": {"gone": {}, "list": [{"emptyDir": {}, "gone": ()}]},
    }  # fmt: skip
    assert without_empty(given) == {
        "labels": {"a": ""}, "zero": 0, "no": False, "grid": {}, "inner": {"list": [{"emptyDir": {}}]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("1024Mi", "1Gi"), ("1Gi", "1Gi"), ("1.5Gi", "1536Mi"), ("1500Mi", "1500Mi"), ("2048M", "2048M"),
        ("1000M", "1G"), ("8G", "8G"), ("0.5", "500m"), ("1000m", "1"), ("1500m", "1500m"), ("2", "2"),
        ("1000", "1k"), ("1024", "1024"), ("512Ki", "512Ki"), ("0", "0"), ("0.5Ki", "512"),
    ],
)  # fmt: skip
def test_amounts_as_kubernetes_writes_them(given: str, written: str) -> None:
    assert canonical(given) == written


def templates(build: Callable[[bool], Object], full: bool) -> list[Object]:
    """Return the templates of pods that are in an object."""
    item = build(full)
    spec = item["spec"].get("trainJobTemplate", item)["spec"]
    if item["kind"] == "Experiment":
        return [spec["trialTemplate"]["trialSpec"]["spec"]["template"]]
    if item["kind"] == "InferenceService":
        return [{"metadata": {}, "spec": spec["predictor"]}]
    if item["kind"] == "ServingRuntime":
        return [{"metadata": {}, "spec": spec}]
    (patch,), (override,) = spec["runtimePatches"], spec["podTemplateOverrides"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    return [job["template"]["spec"]["template"], override]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("build", [experiment, train_job, optimization_job, service, runtime])
def test_every_pod_may_run_where_policies_are_strict(build: Callable[[bool], Object], full: bool) -> None:
    for template in templates(build, full):
        assert not restricted(template)
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        writable = {volume["name"] for volume in template["spec"]["volumes"] if "emptyDir" in volume}
        assert {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in writable} >= {"/tmp"}


def test_what_others_put_into_a_trial_may_run_too() -> None:
    """Katib's collector: its image runs as root unless told; it gets our container's context if Katib is set so."""
    (template,) = templates(experiment, False)
    collector = {"name": "metrics-logger-and-collector"}
    joined = deepcopy(template)
    joined["spec"]["containers"].append(collector)
    assert restricted(joined) == ["allowPrivilegeEscalation != false", "unrestricted capabilities"]
    assert joined["spec"]["securityContext"]["runAsUser"] == USER
    (ours, _) = joined["spec"]["containers"]
    collector["securityContext"] = ours["securityContext"]
    assert not restricted(joined)


def test_what_fetches_the_bundle_inherits_from_the_pod() -> None:
    """The rest is in KServe's hands: its ClusterStorageContainer. Knative takes no context of a pod."""
    for mode, lacking in (("Standard", []), ("Knative", ["runAsNonRoot != true", "seccompProfile"])):
        predictor = service(False, mode=mode)["spec"]["predictor"]
        pod = {"spec": {**predictor, "initContainers": [{"name": "storage-initializer"}]}}
        assert restricted(pod) == ["allowPrivilegeEscalation != false", "unrestricted capabilities", *lacking]
    assert "securityContext" not in service(False)["spec"]["predictor"], "it may be Knative's"


def test_a_step_lacks_what_it_is_told(tmp_path: Path) -> None:
    """Kubeflow Pipelines puts the context that a task is given upon its container ``main``."""
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(PipelineSettings(), path)
    _, platforms = yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
    told = {json.dumps(task["securityContext"]) for task in
            platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()}  # fmt: skip
    assert told == {'{"runAsNonRoot": true}'}
    step = deepcopy(RECORDED["step"])
    assert restricted(step) == ["runAsNonRoot != true"]
    (main,) = [container for container in step["spec"]["containers"] if container["name"] == "main"]
    main["securityContext"] |= json.loads(told.pop())
    assert not restricted(step)


LACKING = [
    "allowPrivilegeEscalation != false", "unrestricted capabilities", "runAsNonRoot != true", "seccompProfile",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "refused"),
    [("step", ["runAsNonRoot != true"]), ("driver", []), ("root driver", []), ("TrainJob", LACKING)],
)
def test_the_check_finds_what_a_real_cluster_found(name: str, refused: list[str]) -> None:
    assert restricted(RECORDED[name]) == refused
    assert not baseline(RECORDED[name])


def test_a_recorded_trial_was_refused_as_the_cluster_did() -> None:
    taken = json.loads((ROOT / "tests/data/kubeflow/experiment_taken.json").read_text())
    template = taken["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]
    assert restricted(template) == LACKING
    assert not baseline(template)


@pytest.mark.parametrize(
    ("where", "change", "refused"),
    [
        ("pod", {"hostNetwork": True}, "host namespaces"),
        ("pod", {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}, "hostPath volumes"),
        ("pod", {"volumes": [{"name": "a", "nfs": {}}]}, "restricted volume types"),
        ("pod", {"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}, "forbidden sysctls"),
        ("pod", {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccompProfile"),
        ("pod", {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, "seLinuxOptions"),
        ("pod", {"securityContext": {"windowsOptions": {"hostProcess": True}}}, "hostProcess"),
        ("metadata", {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}, "forbidden AppArmor profiles"),
        ("context", {"privileged": True}, "privileged"),
        ("context", {"procMount": "Unmasked"}, "procMount"),
        ("context", {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}, "non-default capabilities"),
        ("context", {"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}, "unrestricted capabilities"),
        ("context", {"runAsUser": 0}, "runAsUser=0"),
        ("context", {"runAsNonRoot": False}, "runAsNonRoot != true"),
        ("context", {"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation != false"),
        ("context", {"appArmorProfile": {"type": "Unconfined"}}, "forbidden AppArmor profiles"),
        ("container", {"ports": [{"containerPort": 1, "hostPort": 1}]}, "hostPort"),
        ("container", {"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}, "probe or lifecycle host"),
    ],
)
def test_the_check_knows_every_rule(where: str, change: Object, refused: str) -> None:
    (template,) = templates(experiment, False)
    template = deepcopy(template)
    container = template["spec"]["containers"][0]
    places = {"pod": template["spec"], "container": container, "context": container["securityContext"],
              "metadata": template["metadata"]["annotations"]}  # fmt: skip
    for key, value in change.items():
        inner = places[where].get(key)
        places[where][key] = {**inner, **value} if isinstance(inner, dict) else value
    assert refused in restricted(template)


def test_the_user_is_the_images() -> None:
    (user,) = re.findall(r"^USER (.+)$", (ROOT / "docker/Dockerfile").read_text(), flags=re.MULTILINE)
    assert user == f"{USER}:0"


def test_cores_are_limited_only_where_asked() -> None:
    assert "cpu" not in resources(Pod())["limits"]
    pod = Pod(cpu="500m", cpu_limit="1500m")
    assert resources(pod)["limits"] == {"memory": "8G", "cpu": "1500m"}
    assert environment(pod) == [{"name": "OMP_NUM_THREADS", "value": "2"}]
    assert environment(Pod(cpu_limit="4", env={"OMP_NUM_THREADS": "3"})) == [{"name": "OMP_NUM_THREADS", "value": "3"}]
    with pytest.raises(InputError, match=r"cpu_limit \(1500m\) is less than cpu \(2\)"):
        resources(Pod(cpu_limit="1500m"))


def test_a_claim_may_be_what_is_written_to() -> None:
    mounted, mounts = volumes(Pod(claims={"large": "/tmp/"}))
    assert [mount["mountPath"] for mount in mounts] == ["/tmp/"]
    assert "emptyDir" not in mounted[0]
