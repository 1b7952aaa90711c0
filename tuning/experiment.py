"""Katib's Experiment (v1beta1) as a plain dict: what a cluster is given, and what is run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from caloforge import __version__
from caloforge.config import Config
from caloforge.tuning.space import Categorical, Parameter, SearchSpace, format_value

PRIMARY_CONTAINER = "trial"
SCRATCH = "/scratch"
"""Where a trial writes on a cluster: an empty folder of its pod, whose root may be read-only."""


class TrialPod(Config):
    """What a trial gets on a cluster; a local run gives it the environment variables only.

    Attributes:
        image: container image with this package; never tag it ``latest``.
        namespace: where experiment and trials run.
        cpu: cores, as Kubernetes writes them.
        memory: as Kubernetes writes it.
        gpus: number of GPUs.
        gpu_type: Kubernetes' name of the GPU resource.
        claims: persistent volume claims to the paths where trials find them.
        env: environment variables.
        service_account: account that the trial runs as; the namespace's default without it.
    """

    image: str = f"ghcr.io/caloforge/python-caloforge:{__version__}"
    namespace: str = "default"
    cpu: str = "2"
    memory: str = "8G"
    gpus: int = Field(default=0, ge=0)
    gpu_type: str = "nvidia.com/gpu"
    claims: dict[str, str] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    service_account: str | None = None


def build_experiment(
    space: SearchSpace,
    *,
    name: str,
    objective: str,
    additional: Sequence[str] = (),
    algorithm: str,
    seed: int,
    trials: int,
    parallel: int,
    max_failed: int,
    command: Sequence[str],
    output: str,
    pod: TrialPod,
) -> dict[str, Any]:
    """Return the Experiment.

    Args:
        space: what is searched.
        name: of the experiment.
        objective: name of the metric to minimise.
        additional: metrics to keep beside it.
        algorithm: name of the search algorithm.
        seed: of the algorithm.
        trials: number of trials.
        parallel: trials at a time.
        max_failed: the experiment fails when more trials than this have failed.
        command: what runs a trial; ``--set PATH=VALUE`` for each parameter and ``--output`` follow.
        output: folder in which each trial writes a folder of its own name.
        pod: what a trial gets.
    """
    references = {parameter_name(path): parameter_name(path) for path in space.parameters}
    references["trial"] = "${trialSpec.Name}"
    args = [f"--set={path}=${{trialParameters.{parameter_name(path)}}}" for path in space.parameters]
    args.append(f"--output={output}/${{trialParameters.trial}}")
    settings = [] if algorithm == "sobol" else [{"name": "random_state", "value": str(seed)}]
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": name, "namespace": pod.namespace},
        "spec": {
            "maxTrialCount": trials,
            "parallelTrialCount": min(parallel, trials),
            "maxFailedTrialCount": min(max_failed, trials),
            "resumePolicy": "Never",
            "objective": {
                "type": "minimize",
                "objectiveMetricName": objective,
                "additionalMetricNames": list(additional),
                "metricStrategies": [{"name": metric, "value": "latest"} for metric in (objective, *additional)],
            },
            "algorithm": {"algorithmName": algorithm, "algorithmSettings": settings},
            "parameters": [_parameter(path, parameter) for path, parameter in space.parameters.items()],
            "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
            "trialTemplate": {
                "retain": False,
                "primaryContainerName": PRIMARY_CONTAINER,
                "trialParameters": [{"name": name, "reference": source} for name, source in references.items()],
                "trialSpec": _job(command, args, pod),
            },
        },
    }


def parameter_name(path: str) -> str:
    """Return Katib's name of a parameter: no dots, which separate the fields of its templates."""
    return path.replace(".", "-")


def parameter_path(name: str) -> str:
    """Return the path that a parameter of Katib stands for; names in configurations have no dashes."""
    return name.replace("-", ".")


def _parameter(path: str, parameter: Parameter) -> dict[str, Any]:
    if isinstance(parameter, Categorical):
        space: dict[str, Any] = {"list": [format_value(value) for value in parameter.values]}
    else:
        space = {"min": format_value(parameter.min), "max": format_value(parameter.max)}
        if parameter.type == "int" and parameter.step != 1:
            space["step"] = str(parameter.step)
        if parameter.log:
            space["distribution"] = "logUniform"
    return {"name": parameter_name(path), "parameterType": parameter.type, "feasibleSpace": space}


def _job(command: Sequence[str], args: Sequence[str], pod: TrialPod) -> dict[str, Any]:
    """Return the batch Job of a trial, not tried twice: Katib counts failures itself."""
    resources: dict[str, Any] = {"cpu": pod.cpu, "memory": pod.memory}
    if pod.gpus:
        resources[pod.gpu_type] = str(pod.gpus)
    container: dict[str, Any] = {
        "name": PRIMARY_CONTAINER,
        "image": pod.image,
        "command": list(command),
        "args": list(args),
        "resources": {"requests": dict(resources), "limits": dict(resources)},
    }
    spec: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if pod.env:
        container["env"] = [{"name": name, "value": value} for name, value in pod.env.items()]
    container["volumeMounts"] = [{"name": "scratch", "mountPath": SCRATCH}]
    spec["volumes"] = [{"name": "scratch", "emptyDir": {}}]
    for number, (claim, path) in enumerate(pod.claims.items()):
        container["volumeMounts"].append({"name": f"claim-{number}", "mountPath": path})
        spec["volumes"].append({"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}})
    if pod.service_account is not None:
        spec["serviceAccountName"] = pod.service_account
    # A trial with Istio's sidecar never ends. Old versions of Istio read the annotation, new ones the label.
    sidecar: Mapping[str, str] = {"sidecar.istio.io/inject": "false"}
    metadata = {"labels": dict(sidecar), "annotations": dict(sidecar)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"backoffLimit": 0, "template": {"metadata": metadata, "spec": spec}},
    }
