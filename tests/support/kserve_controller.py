"""KServe's side of an InferenceService on the local API server: rollouts, pods, revisions, traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubernetes_api import KubernetesApi

from caloforge.pods import digest_of

Object = dict[str, Any]

TIME = "2026-01-01T00:00:00Z"


@dataclass
class _Revision:
    """Servers of one specification."""

    number: int
    key: str
    labels: dict[str, str]
    storage_uri: str
    looks: int = 0
    ready: bool = False


class KServe:
    """Brings up the servers of any InferenceService, a little further at each look.

    As in KServe, another annotation or label makes new pods as another specification does, and the
    condition Ready of a Deployment stays true while its pods are replaced.

    Attributes:
        url: where servers answer.
        urls: where those of a storageUri answer, if elsewhere.
        broken: storageUris whose servers do not come up.
        waiting: what their container says.
        died: how it ended the time before, as Kubernetes writes it.
        model: KServe's ``modelStatus``; of a model that is loaded without it.
        looks: how often one must look until servers are ready.
        knative: whether there are revisions and traffic.
        ready_at_all: whether a service gets its condition.
    """

    def __init__(self, api: KubernetesApi, url: str, *, knative: bool = False) -> None:
        self.api, self.url, self.knative = api, url, knative
        self.urls: dict[str, str] = {}
        self.broken: set[str] = set()
        self.waiting: Object = {"reason": "ContainerCreating"}
        self.died: Object = {}
        self.model: Object = {}
        self.restarts = 0
        self.looks = 3
        self.revisions: list[_Revision] = []
        self.rolled_out: _Revision | None = None
        self.traffic: list[str] = []
        """Where traffic went, one entry for each change."""
        api.controllers["inferenceservices"] = self.reconcile

    def reconcile(self, item: Object) -> None:
        predictor = item["spec"]["predictor"]
        template = {key: value for key, value in predictor.items() if key != "canaryTrafficPercent"}
        key = digest_of({"spec": template, "annotations": item["metadata"].get("annotations", {})})
        if not self.revisions or self.revisions[-1].key != key:
            labels = {**item["metadata"].get("labels", {}), **predictor.get("labels", {})}
            new = _Revision(len(self.revisions) + 1, key, labels, _storage_uri(predictor))
            self.revisions.append(new)
        newest = self.revisions[-1]
        newest.looks += 1
        newest.ready |= newest.looks >= self.looks and newest.storage_uri not in self.broken
        ready = [revision for revision in self.revisions if revision.ready]
        if newest.ready and (self.rolled_out is None or predictor.get("canaryTrafficPercent") is None):
            self.rolled_out = newest
        if self.rolled_out is not None:
            serving = self.rolled_out if self.knative else ready[-1]
            if not self.traffic or self.traffic[-1] != serving.storage_uri:
                self.traffic.append(serving.storage_uri)
        self._pods(item["metadata"]["name"], item["metadata"]["namespace"], ready)
        item["status"] = self._status(item, ready)

    def _status(self, item: Object, ready: list[_Revision]) -> Object:
        name = item["metadata"]["name"]
        message = {} if ready else {"reason": "MinimumReplicasUnavailable", "message": "no server yet"}
        condition = {"lastTransitionTime": TIME, "status": str(bool(ready)), **message}
        loaded = {
            "copies": {"failedCopies": 0, "totalCopies": 1},
            "states": {"activeModelState": "Loaded", "targetModelState": "Loaded"},
            "transitionStatus": "UpToDate",
        }
        status: Object = {
            "observedGeneration": item["metadata"]["generation"],
            "conditions": [
                {**condition, "type": "PredictorReady"},
                {**condition, "type": "Ready"},
                {"type": "Stopped", "status": "False", "severity": "Info", "lastTransitionTime": TIME},
            ],
            "modelStatus": self.model or loaded,
        }
        if not ready:
            return status
        if not self.knative:
            host = f"{name}-predictor"
            return {
                **status,
                "url": self._url(ready[-1]),
                "address": {"url": f"http://{host}.{item['metadata']['namespace']}.svc.cluster.local"},
                "components": {"predictor": {"url": f"http://{host}-{item['metadata']['namespace']}.example.com"}},
                "deploymentMode": "Standard",
            }
        assert self.rolled_out is not None
        newest = self.revisions[-1]
        entry = {"latestRevision": True, "tag": "latest", "url": self._url(ready[-1])}
        predictor = {
            "latestCreatedRevision": f"{name}-predictor-{newest.number:05}",
            "latestReadyRevision": f"{name}-predictor-{ready[-1].number:05}",
            "latestRolledoutRevision": f"{name}-predictor-{self.rolled_out.number:05}",
            "url": "http://not-this-one.invalid",
            "traffic": [entry],
        }
        return {**status, "url": self._url(self.rolled_out), "components": {"predictor": predictor}}

    def _url(self, revision: _Revision) -> str:
        return self.urls.get(revision.storage_uri, self.url)

    def _pods(self, name: str, namespace: str, ready: list[_Revision]) -> None:
        """Replace the pods: those that serve, and new ones that do not yet."""
        for key in [key for key in self.api.objects if key[0] == "pods"]:
            del self.api.objects[key]
        newest = self.revisions[-1]
        for revision in [*ready[-1:], *([] if newest.ready else [newest])]:
            state = {"running": {}} if revision.ready else {"waiting": self.waiting}
            died = {"lastState": {"terminated": self.died}} if self.died and not revision.ready else {}
            pod = {
                "metadata": {
                    "name": f"{name}-predictor-{revision.number}",
                    "labels": {**revision.labels, "serving.kserve.io/inferenceservice": name},
                },
                "spec": {
                    "containers": [
                        {
                            "name": "kserve-container",
                            "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                            "resources": {"limits": {"memory": "4G"}},
                        }
                    ]
                },
                "status": {
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": str(revision.ready)}],
                    "containerStatuses": [
                        {
                            "name": "kserve-container",
                            "ready": revision.ready,
                            "restartCount": self.restarts,
                            "state": state,
                            **died,
                        }
                    ],
                },
            }
            self.api.add("pods", pod, namespace=namespace)


def _storage_uri(predictor: Object) -> str:
    if "model" in predictor:
        return str(predictor["model"]["storageUri"])
    variables = {entry["name"]: entry.get("value", "") for entry in predictor["containers"][0].get("env", [])}
    return str(variables.get("STORAGE_URI", ""))
