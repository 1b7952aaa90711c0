"""Give an Experiment to Katib on a cluster, wait for it, and bring its trials home."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from caloforge.cluster import EXPERIMENT, TRIAL, Cluster, Refused, conditions
from caloforge.errors import InputError
from caloforge.tuning.experiment import parameter_path
from caloforge.tuning.objective import TrialFailed
from caloforge.tuning.result import State, Trial, Tuning
from caloforge.tuning.rules import check_experiment
from caloforge.tuning.space import parse_value

logger = logging.getLogger(__name__)

_EXPERIMENT_LABEL = "katib.kubeflow.org/experiment"
"""Katib puts it on trials and their pods."""

_STATES: dict[str, State] = {"Succeeded": "succeeded", "EarlyStopped": "stopped early"}
_ENDS = {"Succeeded", "EarlyStopped", "Failed", "MetricsUnavailable", "Killed"}
_PLAIN = re.compile(r"[\w@%+=:,./$\{\}-]*", re.ASCII)
"""Katib joins the command with spaces and gives it to a shell."""


def run_on_katib(experiment: dict[str, Any], cluster: Cluster, *, timeout: float | None = None) -> Tuning:
    """Create the Experiment, wait for its end and delete it, whatever happens.

    An Experiment of the same name and content that is there already is waited for, so that a step
    that is tried again does not begin anew.

    Args:
        experiment: the Experiment.
        cluster: the namespace that it is made for.
        timeout: seconds to wait in all; those trials that are done then must do. Without it as long
            as it takes.

    Raises:
        InputError: Katib would refuse the experiment, is not there, or may not be used.
        TrialFailed: the experiment failed, or no trial was done in time.
        ClusterError: the cluster does not answer any more.
    """
    check_experiment(experiment)
    _check_command(experiment)
    name: str = experiment["metadata"]["name"]
    if "Failed" in _reached(cluster.create(EXPERIMENT, experiment)):
        logger.info("%s: failed in an earlier attempt that was killed; beginning anew", name)
        cluster.delete(EXPERIMENT, name)
        cluster.create(EXPERIMENT, experiment)
    try:
        _wait(name, cluster, timeout)
        return _result(experiment, cluster)
    finally:
        cluster.delete(EXPERIMENT, name)


def _wait(name: str, cluster: Cluster, timeout: float | None) -> None:
    shown = ""
    status: dict[str, Any] = {}
    deaths: dict[str, str] = {}
    try:
        for item in cluster.watch(EXPERIMENT, name, timeout=timeout):
            status = item.get("status", {})
            _notice_deaths(name, cluster, deaths)
            counts = {key: status.get(f"trials{key}", 0) for key in ("Succeeded", "Failed", "Running")}
            progress = ", ".join(f"{count} {key.lower()}" for key, count in counts.items())
            if progress != shown:
                logger.info("%s: trials: %s", name, progress)
                shown = progress
            reached = _reached(item)
            if "Succeeded" in reached:
                return
            if "Failed" in reached:
                failure = conditions(item)["Failed"]
                told = [
                    f"{failure.get('reason')}: {failure.get('message')}",
                    *(deaths.values() or cluster.events(name)[-3:]),
                ]
                raise TrialFailed(f"experiment {name} failed: " + "; ".join(told))
    except TimeoutError as error:
        logger.warning("%s (trials: %s)", error, shown)
        if not status.get("trialsSucceeded"):
            text = f"{error} (trials: {shown}; kubectl get trials --namespace {cluster.namespace})"
            raise TrialFailed(text) from None


def _notice_deaths(name: str, cluster: Cluster, deaths: dict[str, str]) -> None:
    """Tell how pods of trials died while they can be asked: Katib removes those of trials that are over."""
    try:
        pods = cluster.pods(f"{_EXPERIMENT_LABEL}={name}")
    except Refused:
        return  # they may not be read
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            end, which = container.get("state", {}).get("terminated"), pod["metadata"]["name"]
            if end is None or end["exitCode"] == 0 or which in deaths:
                continue
            text = f"pod {which}: {end.get('reason')} (exit code {end['exitCode']})"
            if end.get("reason") == "OOMKilled":
                text += "; give trials more memory (memory of --pod), or smaller batches"
            logger.warning("%s", text)
            deaths[which] = text


def _result(experiment: dict[str, Any], cluster: Cluster) -> Tuning:
    name = experiment["metadata"]["name"]
    found = cluster.find(TRIAL, selector=f"{_EXPERIMENT_LABEL}={name}")
    objective = experiment["spec"]["objective"]
    metric = objective["objectiveMetricName"]
    strategies = {entry["name"]: entry["value"] for entry in objective["metricStrategies"]}
    trials = [_trial(item, metric, strategies) for item in found if _reached(item) & _ENDS]
    trials.sort(key=lambda trial: trial.name)
    result = Tuning(metric, objective["type"] == "maximize", trials)
    if not result.ranked:
        text = (
            f"experiment {name}: no trial gave {metric}; does the namespace {cluster.namespace!r} have the label "
            "katib.kubeflow.org/metrics-collector-injection=enabled?"
        )
        raise TrialFailed(text)
    return result


def _trial(item: dict[str, Any], objective: str, strategies: Mapping[str, str]) -> Trial:
    status = item.get("status", {})
    metrics = {}
    for metric in status.get("observation", {}).get("metrics", []):
        value = parse_value(str(metric.get(strategies.get(metric["name"], "latest"), "")))
        if isinstance(value, int | float):  # not the text "unavailable"
            metrics[metric["name"]] = float(value)
    state: State = next((_STATES[kind] for kind in _STATES if kind in _reached(item)), "failed")
    if state == "succeeded" and objective not in metrics:
        state = "failed"
    given = item["spec"]["parameterAssignments"]
    parameters = {parameter_path(entry["name"]): parse_value(entry["value"]) for entry in given}
    start, end = status.get("startTime"), status.get("completionTime")
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() if start and end else None
    return Trial(item["metadata"]["name"], state, parameters, metrics, seconds)


def _reached(item: dict[str, Any]) -> set[str]:
    return {kind for kind, entry in conditions(item).items() if entry["status"] == "True"}


def _check_command(experiment: dict[str, Any]) -> None:
    pod = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    for container in pod["containers"]:
        for word in (*container["command"], *container.get("args", [])):
            if not _PLAIN.fullmatch(word):
                raise InputError(f"{word!r}: Katib passes the command through a shell; use letters, digits and ./_-=")
