import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiClient

from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.registries import FAMILIES
from caloforge.tuning.experiment import TrialPod, build_experiment, parameter_name, parameter_path
from caloforge.tuning.rules import check_experiment
from caloforge.tuning.space import load_space

Toy = Callable[..., dict[str, Any]]
POD = TrialPod(
    image="registry/caloforge:1",
    namespace="physics",
    gpus=1,
    claims={"data": "/data"},
    env={"A": "b"},
    service_account="trainer",
)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_experiments_survive_the_official_models(family: str) -> None:
    """What the models do not know vanishes in them."""
    from kubeflow_katib_api.models import V1beta1Experiment

    experiment = build_experiment(
        load_space(family, "demo"), name="tune", objective="fpd", additional=["auc"], algorithm="tpe", seed=1,
        trials=8, parallel=2, max_failed=2, command=["caloforge", "trial"], output="/data/trials", pod=POD,
        early_stopping=True,
    )  # fmt: skip
    check_experiment(experiment)
    assert V1beta1Experiment.from_dict(experiment).to_dict() == experiment


def decision(job: dict[str, Any], trial: int, collector: int, conditions: tuple[str, ...] = ()) -> str:
    """Return what a Job does after a pod with these exit codes, as pkg/controller/job/pod_failure_policy.go does."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        patterns = {one["type"] for one in rule.get("onPodConditions", []) if one["status"] == "True"}
        if patterns & set(conditions):
            return str(rule["action"])
        if codes := rule.get("onExitCodes"):
            assert codes["operator"] == "In"
            seen = {"trial": trial, "metrics-logger-and-collector": collector}
            wanted = [codes["containerName"]] if "containerName" in codes else list(seen)
            if any(seen[name] and seen[name] in codes["values"] for name in wanted):
                return str(rule["action"])
    return "Count"


@pytest.mark.parametrize(
    ("what", "trial", "collector", "conditions", "expected"),
    [
        ("wrong input", 2, 255, (), "FailJob"),
        ("diverged, or anything where trials may be stopped early", 1, 255, (), "FailJob"),
        ("out of memory", 137, 255, (), "FailJob"),
        ("the collector could not tell Katib", 0, 255, (), "Count"),
        ("the collector ran out of its memory", 0, 137, (), "Count"),
        ("the pod was deleted by hand", 143, 143, (), "Count"),
        ("the node was drained", 137, 137, ("DisruptionTarget",), "Ignore"),
        ("evicted, and the trial noticed", 1, 255, ("DisruptionTarget",), "Ignore"),
    ],
)
def test_which_pods_are_tried_again(
    what: str, trial: int, collector: int, conditions: tuple[str, ...], expected: str, toy: Toy
) -> None:
    job = toy()["spec"]["trialTemplate"]["trialSpec"]
    assert decision(job, trial, collector, conditions) == expected, what
    assert job["spec"]["backoffLimit"] == 2


def test_a_cluster_takes_the_policy(toy: Toy) -> None:
    """What Kubernetes checks of it (pkg/apis/batch/validation), and Katib: it survives the typed object."""
    job = toy()["spec"]["trialTemplate"]["trialSpec"]
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    kept, failing = job["spec"]["podFailurePolicy"]["rules"]
    assert failing["onExitCodes"]["values"] == sorted(set(failing["onExitCodes"]["values"]))
    assert failing["onExitCodes"]["containerName"] in {one["name"] for one in pod["containers"]}
    assert [set(one) for one in kept["onPodConditions"]] == [{"type", "status"}], "Go writes a status that is missing"
    with ApiClient() as api:
        answer = SimpleNamespace(data=json.dumps(job))
        assert api.sanitize_for_serialization(api.deserialize(answer, "V1Job")) == job


@pytest.mark.parametrize(("trials", "parallel", "bound"), [(20, 4, 6), (6, 4, None), (1, 1, None)])
def test_katibs_bound_is_beyond_what_runs_at_a_time(trials: int, parallel: int, bound: int | None, toy: Toy) -> None:
    experiment = toy(trials=trials, parallel=parallel, max_failed=2)
    check_experiment(experiment)
    assert experiment["spec"].get("maxFailedTrialCount") == bound


def test_parameter_names() -> None:
    path = "model.network.width"
    assert "." not in parameter_name(path)
    assert parameter_path(parameter_name(path)) == path


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(experiment: dict[str, Any]) -> None:
        *groups, name = [int(part) if part.isdigit() else part for part in path.split("/")]
        inner: Any = experiment
        for group in groups:
            inner = inner[group]
        if value is None:
            del inner[name]
        else:
            inner[name] = value

    return change


POD_SPEC = "spec/trialTemplate/trialSpec/spec/template/spec"
CONTAINER = f"{POD_SPEC}/containers/0"
RECORDED = Path(__file__).parents[1] / "data/kubeflow/experiment_taken.json"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("metadata/name", "Toy", "metadata.name"),
        ("metadata/name", "a" * 41, "metadata.name"),
        ("spec/maxTrialCount", 0, "spec.maxTrialCount"),
        ("spec/parallelTrialCount", 9, "spec.parallelTrialCount"),
        ("spec/maxFailedTrialCount", 99, "spec.maxFailedTrialCount"),
        ("spec/resumePolicy", "Sometimes", "spec.resumePolicy"),
        ("spec/objective", None, "spec.objective"),
        ("spec/objective/type", "mini", "spec.objective.type"),
        ("spec/objective/objectiveMetricName", "", "spec.objective.objectiveMetricName"),
        ("spec/objective/objectiveMetricName", "val/fpd", "spec.objective"),
        ("spec/objective/additionalMetricNames", ["fpd"], "spec.objective.additionalMetricNames"),
        ("spec/algorithm/algorithmName", "guess", "spec.algorithm.algorithmName"),
        ("spec/algorithm/algorithmSettings", [{"name": "n_startup_trials", "value": "5"}], "tpe has no 'n_startup"),
        ("spec/earlyStopping", {"algorithmName": "meanstop"}, "spec.earlyStopping.algorithmName"),
        ("spec/earlyStopping/algorithmSettings/0/name", "patience", "medianstop has no 'patience'"),
        ("spec/earlyStopping/algorithmSettings/0/value", "0", "min_trials_required must be a positive"),
        ("spec/metricsCollectorSpec/collector/kind", "Push", "spec.earlyStopping: needs a collector"),
        ("spec/parameters", [], "spec.parameters"),
        ("spec/parameters/0/parameterType", "real", "spec.parameters[0].parameterType"),
        ("spec/parameters/0/feasibleSpace", {}, "spec.parameters[0].feasibleSpace"),
        ("spec/parameters/0/feasibleSpace/list", ["1"], "spec.parameters[0].feasibleSpace.list"),
        ("spec/parameters/0/feasibleSpace/max", None, "needs min and max"),
        ("spec/parameters/0/feasibleSpace/min", "1", "greater than max"),
        ("spec/parameters/0/feasibleSpace/distribution", "flat", "feasibleSpace.distribution"),
        ("spec/parameters/0/parameterType", "categorical", "are not for type categorical"),
        ("spec/trialTemplate/primaryContainerName", "", "spec.trialTemplate.primaryContainerName"),
        ("spec/trialTemplate/trialParameters/0/reference", "rate", "reference 'rate' is not in spec.parameters"),
        ("spec/trialTemplate/trialParameters/0/reference", "training-batch_size", "is there 2 times"),
        ("spec/trialTemplate/trialParameters/0/name", "rate", "is not used"),
        ("spec/trialTemplate/trialParameters/0", None, "is not in trialParameters"),
        ("spec/trialTemplate/trialSpec/kind", "", "spec.trialTemplate.trialSpec.kind"),
        ("spec/trialTemplate/trialSpec/kind", "Thing", "spec.trialTemplate.successCondition"),
        ("spec/trialTemplate/trialSpec/metadata", {"name": "x"}, "trialSpec.metadata.name"),
        ("spec/trialTemplate/trialSpec/spec/backofLimit", 1, "trialSpec.spec.backofLimit"),
        (f"{CONTAINER}/comand", ["x"], "trialSpec.spec.template.spec.containers[0].comand"),
        (f"{CONTAINER}/env", [], "unable to convert: /spec/template/spec/containers/0/env - [] to Job"),
        (f"{CONTAINER}/env", [{"name": "A", "value": ""}], "/spec/template/spec/containers/0/env/0/value -  to Job"),
        (f"{CONTAINER}/securityContext/capabilities/drop", [], "securityContext/capabilities/drop - [] to Job"),
        (f"{CONTAINER}/tty", False, "/spec/template/spec/containers/0/tty - false to Job"),
        (f"{CONTAINER}/ports", [{"containerPort": "8080"}], "containers/0/ports/0/containerPort - 8080 to Job"),
        (f"{CONTAINER}/livenessProbe", {"periodSeconds": 0}, "livenessProbe/periodSeconds - 0 to Job"),
        (f"{CONTAINER}/resources/limits", {}, "/spec/template/spec/containers/0/resources/limits - map[] to Job"),
        (f"{POD_SPEC}/nodeSelector", {}, "/spec/template/spec/nodeSelector - map[] to Job"),
        (f"{POD_SPEC}/volumes/0/emptyDir", {"sizeLimit": "1024Mi"}, "volumes/0/emptyDir/sizeLimit - 1024Mi to Job"),
        (f"{POD_SPEC}/volumes/0/emptyDir", {"sizeLimit": "much"}, "volumes/0/emptyDir/sizeLimit - much to Job"),
        ("spec/trialTemplate/trialSpec/spec/backoffLimit", "six", "unable to convert to Job: invalid literal for int"),
        ("spec/metricsCollectorSpec/collector/kind", "StdErr", "spec.metricsCollectorSpec.collector.kind"),
        ("spec/metricsCollectorSpec/collector/kind", "File", "spec.metricsCollectorSpec.source.fileSystemPath.path"),
        ("spec/metricsCollectorSpec/source", {"filter": {"metricsFormat": ["(a)=b"]}}, "needs two groups"),
    ],
)
def test_what_the_webhook_refuses(path: str, value: Any, field: str, toy: Toy) -> None:
    experiment = deepcopy(toy(early_stopping=True))
    check_experiment(experiment)
    _set(path, value)(experiment)
    with pytest.raises(InputError, match="Katib would refuse the experiment") as error:
        check_experiment(experiment)
    assert field in str(error.value)


def test_what_a_real_webhook_took() -> None:
    check_experiment(read_json(RECORDED))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{POD_SPEC}/volumes/0/emptyDir", {}),
        (f"{POD_SPEC}/nodeSelector", {"node-role.kubernetes.io/gpu": ""}),
        (f"{POD_SPEC}/automountServiceAccountToken", False),
        (f"{POD_SPEC}/volumes/0/emptyDir", {"sizeLimit": "1Gi"}),
        (f"{CONTAINER}/resources/limits/memory", "1024Mi"),
        (f"{CONTAINER}/resources/limits/cpu", 2),
        (f"{CONTAINER}/securityContext/runAsUser", 0),
    ],
)
def test_what_the_types_keep_although_it_looks_empty(path: str, value: Any, toy: Toy) -> None:
    experiment = deepcopy(toy())
    _set(path, value)(experiment)
    check_experiment(experiment)
