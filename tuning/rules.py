"""The rules by which Katib's admission webhook takes or refuses an Experiment, checked without a cluster.

They follow pkg/webhook/v1beta1/experiment/validator of Katib 0.19.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from caloforge.errors import InputError
from caloforge.tuning.algorithms import ALGORITHMS
from caloforge.tuning.job_fields import unknown_fields
from caloforge.tuning.round_trip import lost

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_NAME = 40
METRIC_NAME = re.compile(r"[\w|-]+", re.ASCII)
"""What the collector's filter can find in a trial's output."""

_REFERENCE = re.compile(r"\$\{trialParameters\..+?\}")
_TRIAL_FIELD = re.compile(r"\$\{trialSpec\.(Name|Namespace|Kind|APIVersion|(Annotations|Labels)\[.+\])\}")
_DISTRIBUTIONS = ("uniform", "logUniform", "normal", "logNormal")
_MEDIAN_STOP_SETTINGS = ("min_trials_required", "start_step")
_RESUME_POLICIES = ("", "Never", "LongRunning", "FromVolume")
_DEFAULT_CONDITIONS = ("Job", "TrainJob", "TFJob", "PyTorchJob", "MPIJob", "XGBoostJob")
"""Kinds of trial for which Katib knows when they have ended."""


def check_experiment(experiment: dict[str, Any]) -> None:
    """Raise InputError, naming every field that Katib would refuse.

    Args:
        experiment: an Experiment as a dict.
    """
    found = [f"{field}: {text}" for field, text in problems(experiment)]
    if found:
        raise InputError("Katib would refuse the experiment: " + "; ".join(found))


def problems(experiment: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of each wrong field and what is wrong with it."""
    name = str(experiment.get("metadata", {}).get("name", ""))
    if not NAME.fullmatch(name):
        yield "metadata.name", f"{name!r} must be lower-case letters, digits and '-', a letter first"
    elif len(name) > LONGEST_NAME:
        yield "metadata.name", f"{name!r} has {len(name)} characters, {LONGEST_NAME} are allowed"
    spec = experiment.get("spec", {})
    yield from _counts(spec)
    yield from _objective(spec.get("objective"))
    yield from _algorithm(spec)
    yield from _early_stopping(spec)
    if spec.get("resumePolicy", "") not in _RESUME_POLICIES:
        yield "spec.resumePolicy", f"{spec['resumePolicy']!r} is not one of {', '.join(_RESUME_POLICIES[1:])}"
    if not spec.get("parameters"):
        yield "spec.parameters", "there are none"
    for number, parameter in enumerate(spec.get("parameters", [])):
        yield from _parameter(f"spec.parameters[{number}]", parameter)
    yield from _trial_template(spec)
    yield from _collector(spec.get("metricsCollectorSpec", {}))


def _counts(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for field, least in (("maxTrialCount", 1), ("parallelTrialCount", 1), ("maxFailedTrialCount", 0)):
        if field in spec and spec[field] < least:
            yield f"spec.{field}", f"{spec[field]} must be {least} or more"
    for field in ("parallelTrialCount", "maxFailedTrialCount"):
        if "maxTrialCount" in spec and spec.get(field, 0) > spec["maxTrialCount"]:
            yield f"spec.{field}", f"{spec[field]} is more than spec.maxTrialCount, {spec['maxTrialCount']}"


def _objective(objective: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if objective is None:
        yield "spec.objective", "is missing"
        return
    if objective.get("type") not in ("minimize", "maximize"):
        yield "spec.objective.type", f"{objective.get('type')!r} must be minimize or maximize"
    name, additional = objective.get("objectiveMetricName", ""), objective.get("additionalMetricNames", [])
    if not name:
        yield "spec.objective.objectiveMetricName", "is missing"
    if name in additional:
        yield "spec.objective.additionalMetricNames", f"must not contain the objective {name!r}"
    for metric in (name, *additional):
        if metric and not METRIC_NAME.fullmatch(metric):  # the webhook takes it, but no value is ever found
            yield "spec.objective", f"metric {metric!r} may hold letters, digits, '_', '|' and '-' only"


def _algorithm(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    algorithm = spec.get("algorithm", {})
    name = algorithm.get("algorithmName", "")
    if name not in ALGORITHMS:
        yield "spec.algorithm.algorithmName", f"{name!r} is not one of {', '.join(ALGORITHMS)}"
        return
    for setting in algorithm.get("algorithmSettings", []):
        if setting["name"] not in ALGORITHMS[name].settings:  # refused only when the experiment runs
            allowed = ", ".join(sorted(ALGORITHMS[name].settings)) or "none"
            yield "spec.algorithm.algorithmSettings", f"{name} has no {setting['name']!r}, only {allowed}"


def _early_stopping(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    stopping = spec.get("earlyStopping")
    if stopping is None:
        return
    if stopping.get("algorithmName") != "medianstop":
        yield "spec.earlyStopping.algorithmName", f"{stopping.get('algorithmName')!r} must be medianstop"
    for setting in stopping.get("algorithmSettings", []):  # refused only when the experiment runs
        name, value = setting["name"], str(setting["value"])
        if name not in _MEDIAN_STOP_SETTINGS:
            allowed = ", ".join(_MEDIAN_STOP_SETTINGS)
            yield "spec.earlyStopping.algorithmSettings", f"medianstop has no {name!r}, only {allowed}"
        elif not value.isdigit() or int(value) < 1:
            yield "spec.earlyStopping.algorithmSettings", f"{name} must be a positive whole number, not {value!r}"
    kind = spec.get("metricsCollectorSpec", {}).get("collector", {}).get("kind", "StdOut")
    if kind not in ("StdOut", "File"):  # the webhook takes it, but no trial is ever stopped
        yield "spec.earlyStopping", f"needs a collector that reads what trials print, not {kind}"


def _parameter(field: str, parameter: dict[str, Any]) -> Iterator[tuple[str, str]]:
    kind, space = parameter.get("parameterType"), parameter.get("feasibleSpace", {})
    if not parameter.get("name"):
        yield f"{field}.name", "is missing"
    if not space:
        yield f"{field}.feasibleSpace", "is missing"
    elif kind in ("int", "double"):
        if "list" in space:
            yield f"{field}.feasibleSpace.list", f"is not for type {kind}"
        if not (space.get("min") and space.get("max")):
            yield f"{field}.feasibleSpace", f"type {kind} needs min and max"
        elif float(space["min"]) > float(space["max"]):  # the webhook takes it, the search service does not
            yield f"{field}.feasibleSpace", f"min {space['min']} is greater than max {space['max']}"
    elif kind in ("categorical", "discrete"):
        if {"min", "max", "step"} & set(space):
            yield f"{field}.feasibleSpace", f"min, max and step are not for type {kind}"
        if not space.get("list"):
            yield f"{field}.feasibleSpace.list", f"type {kind} needs a list"
    else:
        yield f"{field}.parameterType", f"{kind!r} is not one of int, double, categorical, discrete"
    if space.get("distribution", "uniform") not in _DISTRIBUTIONS:
        yield f"{field}.feasibleSpace.distribution", f"{space['distribution']!r} is not one of {_DISTRIBUTIONS}"


def _trial_template(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    template = spec.get("trialTemplate", {})
    field = "spec.trialTemplate"
    if not template.get("primaryContainerName"):
        yield f"{field}.primaryContainerName", "is missing"
    parameters, trial = template.get("trialParameters"), template.get("trialSpec")
    if not parameters:
        yield f"{field}.trialParameters", "is missing"
        return
    if trial is None:
        yield f"{field}.trialSpec", "is missing"
        return
    known = {parameter.get("name") for parameter in spec.get("parameters", [])}
    text = json.dumps(trial)
    for key in ("name", "reference"):
        for value, count in Counter(parameter.get(key, "") for parameter in parameters).items():
            if not value or (key == "name" and set(value) & set("{}")):
                yield f"{field}.trialParameters", f"{key} {value!r} must be given and hold no braces"
            if count > 1:
                yield f"{field}.trialParameters", f"{key} {value!r} is there {count} times"
    for parameter in parameters:
        name, reference = parameter.get("name", ""), parameter.get("reference", "")
        if reference not in known and not _TRIAL_FIELD.fullmatch(reference):
            yield f"{field}.trialParameters", f"reference {reference!r} is not in spec.parameters"
        placeholder = f"${{trialParameters.{name}}}"
        if placeholder not in text:
            yield f"{field}.trialParameters", f"{name!r} is not used: no {placeholder} in trialSpec"
        text = text.replace(placeholder, "value")
    if left := sorted(set(_REFERENCE.findall(text))):
        yield f"{field}.trialSpec", f"{', '.join(left)} is not in trialParameters"
    yield from _trial(f"{field}.trialSpec", trial, template)


def _trial(field: str, trial: dict[str, Any], template: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("apiVersion", "kind"):
        if not trial.get(key):
            yield f"{field}.{key}", "is missing"
    for key in ("name", "namespace"):
        if key in trial.get("metadata", {}):
            yield f"{field}.metadata.{key}", "must not be given, Katib sets it"
    if trial.get("kind") not in _DEFAULT_CONDITIONS:
        for key in ("successCondition", "failureCondition"):
            if not template.get(key):
                yield f"spec.trialTemplate.{key}", f"is needed for trials of kind {trial.get('kind')!r}"
    if (trial.get("apiVersion"), trial.get("kind")) == ("batch/v1", "Job"):
        for unknown in unknown_fields(trial, "V1Job"):
            yield f"{field}.{unknown}", "is not a field of a Job"
        try:
            for path, value in lost(trial, "V1Job"):
                yield field, f"unable to convert: {path} - {value} to Job"
        except ValueError as error:
            yield field, f"unable to convert to Job: {error}"


def _collector(collector: dict[str, Any]) -> Iterator[tuple[str, str]]:
    field = "spec.metricsCollectorSpec"
    kind = collector.get("collector", {}).get("kind", "StdOut")
    source = collector.get("source", {})
    if kind not in ("StdOut", "File", "Push", "TensorFlowEvent", "PrometheusMetric", "Custom", "None"):
        yield f"{field}.collector.kind", f"{kind!r} is unknown"
    if kind == "File":
        file = source.get("fileSystemPath", {})
        if not str(file.get("path", "")).startswith("/"):
            yield f"{field}.source.fileSystemPath.path", "must be absolute"
        if file.get("format") not in ("TEXT", "JSON"):
            yield f"{field}.source.fileSystemPath.format", "must be TEXT or JSON"
        if file.get("format") == "JSON" and source.get("filter"):
            yield f"{field}.source.filter", "is not for JSON"
    for expression in source.get("filter", {}).get("metricsFormat", []):
        try:
            groups = re.compile(expression).groups
        except re.error as error:
            yield f"{field}.source.filter.metricsFormat", f"{expression!r}: {error}"
            continue
        if groups < 2:
            yield f"{field}.source.filter.metricsFormat", f"{expression!r} needs two groups: name and value"
