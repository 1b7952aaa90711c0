"""Katib's side of an experiment, for a local API server.

Counts, conditions and the rules of its webhook are those of pkg/controller.v1beta1/experiment of Katib 0.19, the
objects those that a cluster was seen to have (``tests/data/kubeflow``).
"""

from __future__ import annotations

from typing import Any, Literal

from kubernetes_api import KubernetesApi

Object = dict[str, Any]
Fate = Literal["Succeeded", "EarlyStopped", "MetricsUnavailable", "lost", "own fault", "hangs"]

TIME = "2026-01-01T00:00:00Z"
END = "2026-01-01T00:01:30Z"
JOB_REASONS = {
    "lost": ("BackoffLimitExceeded", "Job has reached the specified backoff limit"),
    "own fault": (
        "PodFailurePolicy",
        "Container trial for pod default/toy-0-abcde failed with exit code 1 matching FailJob rule at index 1",
    ),
}


class Katib:
    """Starts trials of any Experiment, as many at a time as it says; each is over after a few looks.

    Attributes:
        fates: how trials end, in the order they start; those after them succeed.
        metrics: what trials gave, in the same order; those after them gave 0.5; None: nothing.
        looks: how many looks a trial takes.
        blind: how many looks it takes until a completed experiment is seen to have been changed.
    """

    def __init__(self, api: KubernetesApi) -> None:
        self.api = api
        self.fates: list[Fate] = []
        self.metrics: list[str | None] = ["0.25"]
        self.looks = 2
        self.blind = 3
        self.ages: dict[str, int] = {}
        api.controllers["experiments"] = self.reconcile
        api.updates["experiments"] = self.review

    def reconcile(self, experiment: Object) -> None:
        """Do some work, as happens between two looks at an experiment."""
        status = experiment.setdefault("status", {"startTime": TIME, "completionTime": None, "conditions": []})
        name, spec = experiment["metadata"]["name"], experiment["spec"]
        if "Created" not in _true(experiment):
            _mark(experiment, "Created", "ExperimentCreated", "Experiment is created")
            status["currentOptimalTrial"] = {"observation": {}}
            return
        if "Succeeded" in _true(experiment) and self.restartable(experiment):
            if spec["maxTrialCount"] <= status["trials"]:
                return
            if self.blind > 0:
                self.blind -= 1
                return
            _unmark(experiment, "Succeeded")
            _mark(experiment, "Restarting", "ExperimentRestarting", "Experiment is restarted")
        elif _true(experiment) & {"Succeeded", "Failed"}:
            return
        trials = self.trials(name)
        for trial in trials:
            self._age(trial)
        self._count(status, trials)
        failed = status.get("trialsFailed", 0) + status.get("trialMetricsUnavailable", 0)
        done = failed + status.get("trialsSucceeded", 0) + status.get("trialsEarlyStopped", 0)
        if failed and failed >= spec.get("maxFailedTrialCount", 1e9):
            text = "Experiment has failed because max failed count has reached"
            self._end(experiment, "Failed", "ExperimentFailed", text)
        elif done >= spec["maxTrialCount"]:
            text = "Experiment has succeeded because max trial count has reached"
            self._end(experiment, "Succeeded", "ExperimentMaxTrialsReached", text)
        else:
            _mark(experiment, "Running", "ExperimentRunning", "Experiment is running")
            wanted = min(spec["parallelTrialCount"], spec["maxTrialCount"] - done)
            for number in range(len(trials), done + wanted):
                self.start(experiment, number)

    def review(self, old: Object, new: Object) -> str:
        """Return why the webhook refuses a change, empty if it does not."""
        if old["spec"] == new["spec"]:
            return ""
        fixed = [{**one["spec"], "maxTrialCount": 0, "maxFailedTrialCount": 0} for one in (old, new)]
        if fixed[0] != fixed[1]:
            return "only spec.parallelTrialCount, spec.maxTrialCount and spec.maxFailedTrialCount are editable"
        if _true(old) & {"Succeeded", "Failed"} and not self.restartable(old):
            return "Experiment can be restarted if it is in succeeded state by reaching max trials"
        if new["spec"]["maxTrialCount"] <= old["status"].get("trials", 0):
            return "spec.maxTrialCount: must be greater than status.trials count"
        return ""

    def restartable(self, experiment: Object) -> bool:
        """Return whether a completed experiment may go on."""
        reasons = [one["reason"] for one in experiment["status"]["conditions"] if one["type"] == "Succeeded"]
        return reasons == ["ExperimentMaxTrialsReached"] and experiment["spec"]["resumePolicy"] == "LongRunning"

    def trials(self, name: str) -> list[Object]:
        """Return the trials of an experiment in the order they started."""
        ours = {"katib.kubeflow.org/experiment": name}
        found = [one for one in self.api.of("trials") if ours.items() <= one["metadata"].get("labels", {}).items()]
        return sorted(found, key=lambda one: int(one["metadata"]["name"].rpartition("-")[2]))

    def start(self, experiment: Object, number: int) -> None:
        """Start a trial: the first has the lower end of each range, the others have more."""
        name, metadata = experiment["metadata"]["name"], experiment["metadata"]
        values = {}
        for parameter in experiment["spec"]["parameters"]:
            space = parameter["feasibleSpace"]
            lowest = (space.get("list") or [space["min"]])[0]
            scale = number + 1 if parameter["parameterType"] == "double" else 1
            values[parameter["name"]] = lowest if scale == 1 else f"{float(lowest) * scale:g}"
        trial: Object = {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Trial",
            "metadata": {
                "name": f"{name}-{number}",
                "labels": {**metadata.get("labels", {}), "katib.kubeflow.org/experiment": name},
                "finalizers": ["clean-metrics-in-db"],
            },
            "spec": {
                "objective": experiment["spec"]["objective"],
                "parameterAssignments": [{"name": key, "value": value} for key, value in values.items()],
            },
            "status": {"startTime": TIME, "conditions": []},
        }
        _mark(trial, "Created", "TrialCreated", "Trial is created")
        _mark(trial, "Running", "TrialRunning", "Trial is running")
        self.api.add("trials", trial, namespace=metadata["namespace"])

    def _age(self, trial: Object) -> None:
        name = trial["metadata"]["name"]
        number = int(name.rpartition("-")[2])
        fate = self.fates[number] if number < len(self.fates) else "Succeeded"
        self.ages[name] = self.ages.get(name, 0) + 1
        if "Running" not in _true(trial) or fate == "hangs" or self.ages[name] < self.looks:
            return
        value = self.metrics[number] if number < len(self.metrics) else "0.5"
        trial["status"]["completionTime"] = END
        _unmark(trial, "Running")
        if fate in JOB_REASONS:
            reason, message = JOB_REASONS[fate]
            text = f"Trial has failed. Job message: {message}"
            _mark(trial, "Failed", f"TrialFailed. Job reason: {reason}", text)
            return
        objective = trial["spec"]["objective"]
        if value is not None:
            metrics = [{"name": objective["objectiveMetricName"], "latest": value, "min": "9", "max": "9"}]
            trial["status"]["observation"] = {"metrics": metrics}
        _mark(trial, fate, f"Trial{fate}", f"Trial has {fate}")

    def _count(self, status: Object, trials: list[Object]) -> None:
        lists = {"Running": "running", "Succeeded": "succeeded", "Failed": "failed", "EarlyStopped": "earlyStopped"}
        status["trials"] = len(trials)
        for kind, word in lists.items():
            names = [one["metadata"]["name"] for one in trials if kind in _true(one)]
            for key in (f"trials{kind}", f"{word}TrialList"):
                status.pop(key, None)
            if names:
                status[f"trials{kind}"], status[f"{word}TrialList"] = len(names), names
        unavailable = [one["metadata"]["name"] for one in trials if "MetricsUnavailable" in _true(one)]
        if unavailable:
            status["trialMetricsUnavailable"] = len(unavailable)
        for one in trials:
            if "observation" in one["status"]:
                status["currentOptimalTrial"] = {
                    "bestTrialName": one["metadata"]["name"],
                    "observation": one["status"]["observation"],
                    "parameterAssignments": one["spec"]["parameterAssignments"],
                }

    def _end(self, experiment: Object, kind: str, reason: str, message: str) -> None:
        experiment["status"]["completionTime"] = END
        _mark(experiment, kind, reason, message)


def _true(item: Object) -> set[str]:
    return {one["type"] for one in item["status"]["conditions"] if one["status"] == "True"}


def _mark(item: Object, kind: str, reason: str, message: str) -> None:
    kept = [one for one in item["status"]["conditions"] if one["type"] != kind]
    condition = {
        "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": TIME,
        "lastUpdateTime": TIME,
    }  # fmt: skip
    item["status"]["conditions"] = [*kept, condition]


def _unmark(item: Object, kind: str) -> None:
    for one in item["status"]["conditions"]:
        if one["type"] == kind:
            one["status"] = "False"
    if kind == "Succeeded":
        item["status"]["conditions"] = [one for one in item["status"]["conditions"] if one["type"] != kind]
