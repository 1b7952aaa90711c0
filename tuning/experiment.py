"""Katib's Experiment (v1beta1) as a plain dict: what a cluster is given, and what is run here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caloforge.kubernetes_rules import Image, NamespaceOrNone, ObjectName
from caloforge.pods import IMAGE, TEMPORARY, USER, Pod, pod_template, without_empty
from caloforge.tuning.space import Categorical, Parameter, SearchSpace, format_value

PRIMARY_CONTAINER = "trial"
SCRATCH = TEMPORARY
"""Where a trial writes on a cluster: an empty folder of its pod, whose root is read-only."""

"""Kind of work, in the record of a trial's folder."""

MEDIAN_STOP = [{"name": "min_trials_required", "value": "3"}, {"name": "start_step", "value": "4"}]
"""Katib's own defaults: no trial is stopped before so many are done, nor before so many values of its own."""

LOOKS = 9
"""How often a trial is judged on the way where it may be stopped early: after each tenth of its training."""


ATTEMPTS = 3
"""Pods of one trial at most: a pod that is lost, or whose metrics collector gives up, is replaced."""

OWN_FAULTS = (1, 2, 137)
"""Exit codes of a trial that another pod would only repeat: it diverged, its input is wrong, it ran out of memory.
Katib's shell makes 1 of all others where trials may be stopped early."""


class TrialPod(Pod):
    """What a trial gets on a cluster, and where.

    Attributes:
        image: container image with this package; never tag it ``latest``.
        namespace: where experiment and trials run; empty: where this runs, or the kubeconfig says.
        service_account: account that the trial runs as; the namespace's default without it.
    """

    image: Image = IMAGE
    namespace: NamespaceOrNone = ""
    service_account: ObjectName | None = None


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
    early_stopping: bool = False,
    words: Sequence[str] = (),
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
        max_failed: trials that may fail by themselves. Katib is told a greater number: all that run at a
            time may be lost at once, and an experiment that failed cannot go on.
        command: what runs a trial; ``--set PATH=VALUE`` for each parameter (or ``words``) and ``--output`` follow.
        output: folder in which each trial writes a folder of its own name.
        pod: what a trial gets.
        early_stopping: end trials whose values so far are worse than the median of others at that point.
        words: how the command is told the parameters, each as ``${trialParameters.NAME}``, in place of ``--set``.
    """
    references = {parameter_name(path): parameter_name(path) for path in space.parameters}
    references["trial"] = "${trialSpec.Name}"
    args = [*words] or [f"--set={path}=${{trialParameters.{parameter_name(path)}}}" for path in space.parameters]
    args.append(f"--output={output}/${{trialParameters.trial}}")
    parallel = min(parallel, trials)
    most_failed = max_failed + parallel
    settings = [] if algorithm == "sobol" else [{"name": "random_state", "value": str(seed)}]
    stopping = {"algorithmName": "medianstop", "algorithmSettings": MEDIAN_STOP}
    experiment = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": name, "namespace": pod.namespace or None},
        "spec": {
            "maxTrialCount": trials,
            "parallelTrialCount": parallel,
            **({"maxFailedTrialCount": most_failed} if most_failed < trials else {}),
            "resumePolicy": "LongRunning",  # so that trials that were lost can be given again at the end
            "objective": {
                "type": "minimize",
                "objectiveMetricName": objective,
                "additionalMetricNames": list(additional),
                "metricStrategies": [{"name": metric, "value": "latest"} for metric in (objective, *additional)],
            },
            "algorithm": {"algorithmName": algorithm, "algorithmSettings": settings},
            "earlyStopping": stopping if early_stopping else None,
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
    return without_empty(experiment)


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
    """Return the batch Job of a trial: a pod that was lost is replaced, one that failed by itself is not.

    The pods have a second container, Katib's metrics collector. It ends with 255 when the trial failed, but also
    when the trial did well and Katib or the API server could not be told: what counts is how the trial ended.
    A cluster too old for the policy (Kubernetes before 1.26) leaves it out and tries all failures again.
    """
    template = pod_template(
        pod,
        container=PRIMARY_CONTAINER,
        image=pod.image,
        command=command,
        args=args,
        service_account=pod.service_account,
        user=USER,  # Katib's collector joins the pod, and its image would run as root
    )
    # The first rule that fits decides: a pod that is moved elsewhere may end with 137, too.
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": PRIMARY_CONTAINER, "operator": "In", "values": list(OWN_FAULTS)},
        },
    ]
    spec = {"backoffLimit": ATTEMPTS - 1, "podFailurePolicy": {"rules": rules}, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": spec}
