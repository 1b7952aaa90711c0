"""Give an Experiment to Katib on a cluster, wait for it, and bring its trials home."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from caloforge.cluster import EXPERIMENT, TRIAL, Cluster, ClusterError, Refused, conditions
from caloforge.container_end import last_end, why_ended
from caloforge.errors import InputError
from caloforge.tuning.experiment import OWN_FAULTS, PRIMARY_CONTAINER, parameter_path
from caloforge.tuning.result import State, Trial, Tuning
from caloforge.tuning.rules import check_experiment
from caloforge.tuning.space import parse_value

logger = logging.getLogger(__name__)

_EXPERIMENT_LABEL = "katib.kubeflow.org/experiment"
"""Katib puts it on trials and their pods."""

_JOB_LABEL, _OLD_JOB_LABEL = "batch.kubernetes.io/job-name", "job-name"
"""A trial's Job has its name; the second label is that of Kubernetes before 1.27."""

_STATES: dict[str, State] = {"Succeeded": "succeeded", "EarlyStopped": "stopped early"}
_BAD_ENDS = ("Failed", "MetricsUnavailable", "Killed")
_ENDS = {"Succeeded", "EarlyStopped", *_BAD_ENDS}
_ALL_TRIALS = "ExperimentMaxTrialsReached"
_FAIL_JOB = "PodFailurePolicy"
"""In the reason of a trial whose Job was not to try again."""

_PLAIN = re.compile(r"[\w@%+=:,./$\{\}-]*", re.ASCII)
"""Katib joins the command with spaces and gives it to a shell."""


def run_on_katib(experiment: dict[str, Any], cluster: Cluster, *, timeout: float | None = None) -> Tuning:
    """Create the Experiment, wait for its end and delete it, whatever happens.

    An Experiment of the same name and content that is there already is waited for, so that a step
    that is tried again does not begin anew. Trials that were lost (with their pods, or because Katib could
    not be told how they ended) are given again, as many as were asked for at most; those that failed by
    themselves are not.

    Args:
        experiment: the Experiment.
        cluster: the namespace that it is made for.
        timeout: seconds to wait in all; those trials that are done then must do. Without it as long
            as it takes.

    Returns:
        The trials that are over, and why the search ended early if it did: the Experiment failed, the time
        was up, or the cluster did not answer any more.

    Raises:
        InputError: Katib would refuse the experiment, is not there, or may not be used.
    """
    check_experiment(experiment)
    _check_command(experiment)
    name: str = experiment["metadata"]["name"]
    search = _Search(experiment, cluster)
    try:
        if "Failed" in _reached(cluster.create(EXPERIMENT, experiment)):
            logger.info("%s: failed in an earlier attempt that was killed; beginning anew", name)
            cluster.delete(EXPERIMENT, name)
            cluster.create(EXPERIMENT, experiment)
    except ClusterError as error:
        return search.result(str(error), [])
    try:
        return search.wait(timeout)
    finally:
        cluster.delete(EXPERIMENT, name)


class _Search:
    """Waiting for one Experiment: what was seen of it so far."""

    def __init__(self, experiment: dict[str, Any], cluster: Cluster) -> None:
        self.experiment, self.cluster = experiment, cluster
        self.name: str = experiment["metadata"]["name"]
        self.spec: dict[str, Any] = experiment["spec"]
        self.shown = ""
        self.deaths: dict[str, str] = {}
        """Name of a pod to how it died, which is said once."""
        self.ends: dict[str, tuple[str, int]] = {}
        """Name of a trial to how its last pod died, and its exit code."""
        self.failed, self.given_again, self.may_change = 0, 0, True
        self.changed = time.monotonic()

    def wait(self, timeout: float | None) -> Tuning:
        ended = ""
        try:
            for item in self.cluster.watch(EXPERIMENT, self.name, timeout=timeout):
                self._notice_deaths()
                self._show(item)
                reached = _reached(item)
                if "Failed" in reached:
                    failure = conditions(item)["Failed"]
                    told = self.deaths.values() or self.cluster.events(self.name)[-3:]
                    ended = "; ".join([f"{failure.get('reason')}: {failure.get('message')}", *told])
                    break
                current = self._give_again(item)
                if "Succeeded" in reached and not self._goes_on(current):
                    break
        except TimeoutError as error:
            ended = f"{error} (trials: {self.shown})"
        except ClusterError as error:  # its object may have to be deleted by hand, which is said
            return self.result(str(error), [])
        return self.result(ended, self._trials())

    def _show(self, item: dict[str, Any]) -> None:
        status = item.get("status", {})
        counts = {key: status.get(f"trials{key}", 0) for key in ("Succeeded", "EarlyStopped", "Failed", "Running")}
        words = {"EarlyStopped": "stopped early"}
        progress = ", ".join(
            f"{count} {words.get(key, key.lower())}" for key, count in counts.items() if count or key != "EarlyStopped"
        )
        if progress != self.shown:
            logger.info("%s: trials: %s", self.name, progress)
            self.shown = progress

    def _give_again(self, item: dict[str, Any]) -> dict[str, Any]:
        """Ask for as many trials more as were lost, and return the Experiment as it is then."""
        wanted, now = self.spec["maxTrialCount"], item["spec"]["maxTrialCount"]
        self.given_again = now - wanted
        failed = item.get("status", {}).get("trialsFailed", 0)
        over = "Succeeded" in _reached(item)
        if failed == self.failed or not self.may_change or (over and not _restartable(item)):
            return item
        lost = sum(self._is_lost(trial) for trial in self._trials())
        self.failed = failed
        again = min(lost, wanted)
        if again <= self.given_again:
            return item
        changes = {"maxTrialCount": wanted + again}
        if "maxFailedTrialCount" in self.spec:
            changes["maxFailedTrialCount"] = self.spec["maxFailedTrialCount"] + again
        try:
            changed = self.cluster.patch(EXPERIMENT, self.name, {"spec": changes})
        except Refused as error:  # an older Role, or Katib has just ended it
            logger.warning("%s; trials that were lost are not given again", error)
            self.may_change = False
            return item
        logger.info("%s: %d trials were lost, and are given again", self.name, again)
        self.given_again, self.changed = again, time.monotonic()
        return changed

    def _goes_on(self, item: dict[str, Any]) -> bool:
        """Return whether an Experiment that was over goes on, or will as soon as Katib sees that it may."""
        if "Succeeded" not in _reached(item):
            return True
        more = item.get("status", {}).get("trials", 0) < item["spec"]["maxTrialCount"]
        return more and _restartable(item) and time.monotonic() - self.changed < self.cluster.patience

    def _is_lost(self, trial: dict[str, Any]) -> bool:
        """Return whether a trial failed without a fault of its own."""
        if "Failed" not in _reached(trial):
            return False
        # Where a Job knows the policy it says so; where it does not, the exit code tells.
        if _FAIL_JOB in str(conditions(trial)["Failed"].get("reason")):
            return False
        return self.ends.get(trial["metadata"]["name"], ("", 0))[1] not in OWN_FAULTS

    def _notice_deaths(self) -> None:
        """Tell how pods of trials died while they can be asked: Katib removes those of trials that are over."""
        try:
            pods = self.cluster.pods(f"{_EXPERIMENT_LABEL}={self.name}")
        except Refused:
            return  # they may not be read
        for pod in pods:
            name, labels = pod["metadata"]["name"], pod["metadata"].get("labels", {})
            found = [one for one in pod.get("status", {}).get("containerStatuses", []) if why_ended(pod, one)]
            if not found or name in self.deaths:
                continue
            # With the trial the collector ends, too, and says nothing about it.
            one = next((one for one in found if one["name"] == PRIMARY_CONTAINER), found[0])
            code = int((last_end(one) or {}).get("exitCode", 0))
            why = why_ended(pod, one)
            if one["name"] != PRIMARY_CONTAINER:
                why = f"Katib's {one['name']} ended with {why}"
            self.deaths[name] = f"pod {name}: {why}"
            logger.warning("%s", self.deaths[name] + ("" if code in OWN_FAULTS else "; its Job may try again"))
            self.ends[str(labels.get(_JOB_LABEL) or labels.get(_OLD_JOB_LABEL))] = why, code

    def _trials(self) -> list[dict[str, Any]]:
        return self.cluster.find(TRIAL, selector=f"{_EXPERIMENT_LABEL}={self.name}")

    def result(self, ended: str, found: list[dict[str, Any]]) -> Tuning:
        """Return what is known of the search.

        Args:
            ended: why it ended early, empty if it did not.
            found: its Trials.
        """
        objective = self.spec["objective"]
        metric = objective["objectiveMetricName"]
        strategies = {entry["name"]: entry["value"] for entry in objective["metricStrategies"]}
        found = sorted(
            found, key=lambda item: (item.get("status", {}).get("startTime") or "", item["metadata"]["name"])
        )
        trials = []
        for item in found:
            if _reached(item) & _ENDS:
                cause, _ = self.ends.get(item["metadata"]["name"], ("", 0))
                trials.append(_trial(item, metric, strategies, cause))
        if not ended and not any(trial.state == "succeeded" for trial in trials):
            ended = (
                f"no trial gave {metric}; does the namespace {self.cluster.namespace!r} have the label "
                "katib.kubeflow.org/metrics-collector-injection=enabled?"
            )
        if ended:
            logger.warning("%s: %s", self.name, ended)
        return Tuning(metric, objective["type"] == "maximize", trials, ended=ended, given_again=self.given_again)


def _trial(item: dict[str, Any], objective: str, strategies: Mapping[str, str], cause: str) -> Trial:
    status = item.get("status", {})
    metrics = {}
    for metric in status.get("observation", {}).get("metrics", []):
        value = parse_value(str(metric.get(strategies.get(metric["name"], "latest"), "")))
        if isinstance(value, int | float):  # not the text "unavailable"
            metrics[metric["name"]] = float(value)
    reached = _reached(item)
    state: State = next((_STATES[kind] for kind in _STATES if kind in reached), "failed")
    if state == "succeeded" and objective not in metrics:
        state = "failed"
    given = item["spec"]["parameterAssignments"]
    parameters = {parameter_path(entry["name"]): parse_value(entry["value"]) for entry in given}
    start, end = status.get("startTime"), status.get("completionTime")
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() if start and end else None
    if state != "failed":
        cause = ""
    elif not cause:
        said = next((entry for kind, entry in conditions(item).items() if kind in _BAD_ENDS and kind in reached), {})
        cause = str(said.get("message") or f"gave no {objective}")
    return Trial(item["metadata"]["name"], state, parameters, metrics, seconds, cause)


def _restartable(item: dict[str, Any]) -> bool:
    """Return whether an Experiment that is over ended because it had all its trials: then it may get more."""
    return conditions(item).get("Succeeded", {}).get("reason") == _ALL_TRIALS


def _reached(item: dict[str, Any]) -> set[str]:
    return {kind for kind, entry in conditions(item).items() if entry["status"] == "True"}


def _check_command(experiment: dict[str, Any]) -> None:
    pod = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    for container in pod["containers"]:
        for word in (*container["command"], *container.get("args", [])):
            if not _PLAIN.fullmatch(word):
                raise InputError(f"{word!r}: Katib passes the command through a shell; use letters, digits and ./_-=")
