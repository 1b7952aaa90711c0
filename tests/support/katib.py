"""Katib's side of an experiment, for a local API server."""

from __future__ import annotations

from typing import Any

from kubernetes_api import KubernetesApi


class Katib:
    """Runs two trials of any Experiment; after a few looks it is over.

    Attributes:
        outcome: type of the condition that ends the Experiment, ``"never"`` for none.
        metric: what the first trial gave, None if it printed nothing.
        looks: at which look it is over.
        done: trials that are over although the Experiment never is.
    """

    def __init__(self, api: KubernetesApi) -> None:
        self.api = api
        self.outcome = "Succeeded"
        self.metric: str | None = "0.25"
        self.looks = 3
        self.done = 0
        api.controllers["experiments"] = self.reconcile

    def reconcile(self, experiment: dict[str, Any]) -> None:
        """Do some work, as happens between two looks at an experiment."""
        looks = experiment.setdefault("status", {}).get("trialsSucceeded", 0) + 1
        over = looks >= self.looks and self.outcome != "never"
        succeeded = self.done if self.outcome == "never" else looks
        condition = {"type": self.outcome, "status": str(over), "reason": "Because", "message": "of this"}
        experiment["status"] = {"trialsSucceeded": succeeded, "conditions": [condition]}
        if (over or self.done) and not self.api.of("trials"):
            for number in range(self.done or 2):
                self.api.add("trials", self.trial(experiment, number), namespace=experiment["metadata"]["namespace"])

    def trial(self, experiment: dict[str, Any], number: int) -> dict[str, Any]:
        """Return a trial that is over: the first has the lower end of each range, the second one has more."""
        name, metric = experiment["metadata"]["name"], experiment["spec"]["objective"]["objectiveMetricName"]
        values = {}
        for parameter in experiment["spec"]["parameters"]:
            space = parameter["feasibleSpace"]
            lowest = (space.get("list") or [space["min"]])[0]
            scale = number + 1 if parameter["parameterType"] == "double" else 1
            values[parameter["name"]] = lowest if scale == 1 else f"{float(lowest) * scale:g}"
        latest = "0.5" if number else self.metric
        metrics = [] if self.metric is None else [{"name": metric, "latest": latest, "min": "9", "max": "9"}]
        return {
            "metadata": {"name": f"{name}-{number}", "labels": {"katib.kubeflow.org/experiment": name}},
            "spec": {"parameterAssignments": [{"name": key, "value": value} for key, value in values.items()]},
            "status": {
                "conditions": [{"type": "Running", "status": "False"}, {"type": "Succeeded", "status": "True"}],
                "observation": {"metrics": metrics},
                "startTime": "2025-01-01T00:00:00Z",
                "completionTime": "2025-01-01T00:01:30Z",
            },
        }
