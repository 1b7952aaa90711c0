"""Trainer's OptimizationJob (v1alpha1), the successor of Katib's Experiment, as a plain dict.

The fields and rules are those of pkg/apis/trainer/v1alpha1/optimizationjob_types.go of Kubeflow
Trainer; no Python model of them exists yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from caloforge.cluster import OPTIMIZATION_JOB
from caloforge.errors import InputError
from caloforge.models.training.pod import TrainingPod
from caloforge.models.training.trainjob import build_train_job
from caloforge.pods import without_empty
from caloforge.tuning.experiment import TrialPod
from caloforge.tuning.space import Categorical, Int, Parameter, SearchSpace, Value, format_value, parse_value

ASSIGNED = "KUBEFLOW_OPT_"
"""Trials find each parameter in an environment variable with this before its name."""

ALGORITHMS = ("random", "grid")
MOST = 100
"""Greatest number of trials, of parameters, and of values of one parameter."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SPEC = {"objectives", "searchAlgorithm", "parameters", "numTrials", "parallelTrials", "trainJobTemplate"}
_SPACES = {"uniform": {"min", "max", "type"}, "logUniform": {"min", "max", "type"}, "categorical": {"choices"}}


def build_optimization_job(
    space: SearchSpace,
    *,
    name: str,
    objective: str,
    algorithm: str,
    seed: int,
    trials: int,
    parallel: int,
    command: Sequence[str],
    pod: TrialPod,
) -> dict[str, Any]:
    """Return the OptimizationJob.

    Args:
        space: what is searched.
        name: of the object.
        objective: name of the metric to minimise.
        algorithm: ``random`` or ``grid``.
        seed: of the random search.
        trials: number of trials.
        parallel: trials at a time.
        command: what runs a trial, which finds its parameters in its environment.
        pod: what a trial gets.

    Raises:
        InputError: an OptimizationJob cannot do this.
    """
    if algorithm not in ALGORITHMS:
        raise InputError(f"algorithm {algorithm!r}: an OptimizationJob knows {' and '.join(ALGORITHMS)} only")
    job = build_train_job(name, command, nodes=1, processes=1, pod=TrainingPod.model_validate(pod.model_dump()))
    optimization = {
        "apiVersion": OPTIMIZATION_JOB.api_version,
        "kind": OPTIMIZATION_JOB.name,
        "metadata": {"name": name},
        "spec": {
            "objectives": [{"metric": objective, "direction": "Minimize"}],
            "searchAlgorithm": {"random": {"seed": seed}} if algorithm == "random" else {"grid": {}},
            "parameters": [
                {"name": path.replace(".", "__"), "searchSpace": _space(parameter, grid=algorithm == "grid")}
                for path, parameter in space.parameters.items()
            ],
            "numTrials": trials,
            "parallelTrials": min(parallel, trials),
            "trainJobTemplate": {"spec": job["spec"]},
        },
    }
    return without_empty(optimization)


def assigned(environment: Mapping[str, str]) -> dict[str, Value]:
    """Return the parameters that an OptimizationJob gave to this trial: dotted path to value."""
    return {
        name.removeprefix(ASSIGNED).lower().replace("__", "."): parse_value(value)
        for name, value in environment.items()
        if name.startswith(ASSIGNED)
    }


def check_optimization_job(job: dict[str, Any]) -> None:
    """Raise InputError, naming every field that Trainer's API server would refuse or drop."""
    found = [f"{field}: {text}" for field, text in problems(job)]
    if found:
        raise InputError("Trainer would refuse the OptimizationJob: " + "; ".join(found))


def problems(job: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of each wrong field and what is wrong with it."""
    spec = job.get("spec", {})
    for key in spec.keys() - _SPEC:
        yield f"spec.{key}", "is no field of it"
    for key in ("objectives", "parameters", "trainJobTemplate"):
        if not spec.get(key):
            yield f"spec.{key}", "is missing"
    objectives = spec.get("objectives", [])
    if len(objectives) > 1:
        yield "spec.objectives", f"one is allowed, not {len(objectives)}"
    for objective in objectives:
        if not 1 <= len(objective.get("metric", "")) <= 64:
            yield "spec.objectives[0].metric", "must have 1 to 64 characters"
        if objective.get("direction", "Minimize") not in ("Minimize", "Maximize"):
            yield "spec.objectives[0].direction", f"{objective['direction']!r} must be Minimize or Maximize"
    trials, parallel = spec.get("numTrials", 1), spec.get("parallelTrials", 1)
    for key, number in (("numTrials", trials), ("parallelTrials", parallel)):
        if not 1 <= number <= MOST:
            yield f"spec.{key}", f"{number} must be 1 to {MOST}"
    if parallel > trials:
        yield "spec.parallelTrials", f"{parallel} is more than numTrials, {trials}"
    algorithm = spec.get("searchAlgorithm", {"random": {}})
    if len(algorithm) != 1 or not algorithm.keys() <= set(ALGORITHMS):
        yield "spec.searchAlgorithm", f"must be one of {', '.join(ALGORITHMS)}"
    parameters = spec.get("parameters", [])
    if len(parameters) > MOST:
        yield "spec.parameters", f"{len(parameters)} are more than {MOST}"
    names = [parameter.get("name", "") for parameter in parameters]
    if len(set(names)) < len(names):
        yield "spec.parameters", "a name is there twice"
    for number, parameter in enumerate(parameters):
        yield from _parameter(f"spec.parameters[{number}]", parameter, grid="grid" in algorithm)
    template = spec.get("trainJobTemplate", {})
    for key in template.keys() - {"metadata", "spec"}:
        yield f"spec.trainJobTemplate.{key}", "is no field of it"
    for key in template.get("metadata", {}).keys() & {"name", "namespace"}:
        yield f"spec.trainJobTemplate.metadata.{key}", "must not be given"
    if not template.get("spec", {}).get("runtimeRef"):
        yield "spec.trainJobTemplate.spec.runtimeRef", "is missing"


def _parameter(field: str, parameter: Mapping[str, Any], *, grid: bool) -> Iterator[tuple[str, str]]:
    name, space = parameter.get("name", ""), parameter.get("searchSpace", {})
    if not _NAME.fullmatch(name) or len(name) > 64:
        yield f"{field}.name", f"{name!r} must be letters, digits and '_', at most 64"
    if len(space) != 1 or not space.keys() <= _SPACES.keys():
        yield f"{field}.searchSpace", f"must be one of {', '.join(_SPACES)}"
        return
    ((kind, values),) = space.items()
    field = f"{field}.searchSpace.{kind}"
    for key in values.keys() - _SPACES[kind]:
        yield f"{field}.{key}", "is no field of it"
    if kind == "categorical":
        choices = values.get("choices", [])
        if not 1 <= len(choices) <= MOST or len(set(choices)) < len(choices):
            yield f"{field}.choices", f"must be 1 to {MOST} different values"
        if any(not isinstance(choice, str) or len(choice) > 64 for choice in choices):
            yield f"{field}.choices", "must be texts of at most 64 characters"
        return
    if grid:
        yield field, "a grid takes categorical parameters only"
    if values.get("type", "Float") not in ("Int", "Float"):
        yield f"{field}.type", f"{values['type']!r} must be Int or Float"
    bounds = [values.get("min", ""), values.get("max", "")]
    if not all(isinstance(bound, str) and _NUMBER.fullmatch(bound) for bound in bounds):
        yield field, "min and max must be numbers, written as texts"
    elif float(bounds[0]) >= float(bounds[1]) or (kind == "logUniform" and float(bounds[0]) <= 0):
        yield field, "min must be less than max, and positive for logUniform"


def _space(parameter: Parameter, *, grid: bool) -> dict[str, Any]:
    if isinstance(parameter, Categorical):
        return {"categorical": {"choices": [format_value(value) for value in parameter.values]}}
    if isinstance(parameter, Int) and (grid or parameter.step != 1):  # there are no steps
        values = range(parameter.min, parameter.max + 1, parameter.step)
        return {"categorical": {"choices": [str(value) for value in values]}}
    bounds = {"min": format_value(parameter.min), "max": format_value(parameter.max)}
    kind = "Int" if isinstance(parameter, Int) else "Float"
    return {"logUniform" if parameter.log else "uniform": {**bounds, "type": kind}}
