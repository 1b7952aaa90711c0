"""What the pods of a run say of our steps, where the cluster can be reached from here."""

import logging
import re
import time
from collections.abc import Iterable
from typing import Any

from caloforge.cluster import Cluster, ClusterError, Refused, connect
from caloforge.errors import InputError
from caloforge.pipelines.pod_causes import failure, main_status, refusal, waiting
from caloforge.pipelines.progress import Progress, State, moment
from caloforge.pipelines.specification import Step

logger = logging.getLogger(__name__)

RUN = "pipeline/runid"
"""Label of a run's pods."""

NODE_NAME = "workflows.argoproj.io/node-name"
NODE_ID = "workflows.argoproj.io/node-id"
"""Annotations by which Argo says whose pod it is."""

STANDALONE = "kubeflow"
"""Where runs are without a namespace for each user."""

SECONDS = (2.0, 10.0)
"""How long a connection and an answer may take: a cluster is a help here and no need."""

PAUSE_SECONDS = 60.0
"""A cluster that did not answer is left alone for so long."""

_ATTEMPT = re.compile(r"\((\d+)\)(?=\.|$)")
_NODE_EVENT = re.compile(r"(?:Failed|Error) node (\S+): (.+)", re.DOTALL)
_PHASES: dict[str, State] = {"Running": "running", "Succeeded": "succeeded", "Failed": "failed"}


class RunPods:
    """The pods of one run, and what else the cluster tells of them; silent if it tells nothing.

    Attributes:
        known: whether the cluster showed pods of the run at the last look.
    """

    def __init__(self, run_id: str, namespace: str | None) -> None:
        self._run_id, self._namespace = run_id, namespace
        self._places: list[Cluster] | None = None
        self._cluster: Cluster | None = None
        self._quiet_until = 0.0
        self._pods: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        self._events: list[dict[str, Any]] | None = None
        self.known = False

    def look(self) -> None:
        """Ask the cluster anew."""
        self._pods, self._events, self.known = {}, None, False
        if time.monotonic() < self._quiet_until:
            return
        for cluster in [self._cluster] if self._cluster else self._clusters():
            try:
                pods = cluster.pods(f"{RUN}={self._run_id}")
            except (ClusterError, Refused, InputError) as error:
                logger.debug("pods cannot be read: %s", error)
                self._quiet_until = time.monotonic() + PAUSE_SECONDS
                continue
            if pods:
                self._cluster, self.known, self._quiet_until = cluster, True, 0.0
                self._sort(pods)
                return

    def progress(self, step: Step) -> Progress | None:
        """Return the state of a step; None if there is no pod of it."""
        if pods := self._pods.get((*step.path, "executor")):
            return self._of_container(pods)
        key = (*step.path[:-1], f"{step.path[-1]}-driver")
        if not (drivers := self._pods.get(key)):
            return None
        driver = drivers[-1]
        created = moment(driver["metadata"].get("creationTimestamp"))
        if driver["status"]["phase"] == "Failed":
            cause = failure(driver) or self._event(step)
            return Progress("failed", start=created, end=_ended(driver), node=_node(driver), cause=cause)
        # What prepares the container is there, the container is not: not yet, or refused.
        return Progress("pending", start=created, cause=self._event(step) or self._wait(driver))

    def prepared_only(self, step: Step) -> bool:
        """Return whether a step was prepared and got no container, as one that the cache had."""
        driver = (*step.path[:-1], f"{step.path[-1]}-driver")
        return driver in self._pods and (*step.path, "executor") not in self._pods

    def log(self, step: Step) -> str | None:
        """Return the log of a step's last container; None if it cannot be read."""
        pods = self._pods.get((*step.path, "executor"))
        if not pods or self._cluster is None:
            return None
        try:
            return self._cluster.log(pods[-1]["metadata"]["name"], "main")
        except (ClusterError, Refused):
            return None

    def _clusters(self) -> list[Cluster]:
        """Return where the run may be: the namespace that was named, else the usual ones."""
        if self._places is None:
            try:
                here = connect(self._namespace)
            except InputError as error:
                logger.debug("%s", error)
                self._places = []
                return self._places
            names = dict.fromkeys([here.namespace, *([] if self._namespace else [STANDALONE])])
            self._places = [Cluster(here.api, name, patience=0, request_seconds=SECONDS) for name in names]
            here.api.configuration.retries = False
        return self._places

    def _sort(self, pods: Iterable[dict[str, Any]]) -> None:
        """Keep the pods by what they are of, the latest last."""
        for pod in sorted(pods, key=lambda pod: (_attempt(pod), str(pod["metadata"].get("creationTimestamp")))):
            if name := pod["metadata"].get("annotations", {}).get(NODE_NAME):
                self._pods.setdefault(_path(name), []).append(pod)

    def _of_container(self, pods: list[dict[str, Any]]) -> Progress:
        pod = pods[-1]
        phase = pod["status"]["phase"]
        status = main_status(pod)
        # Argo's own containers run before ours does; a pod is "Running" then, too.
        state: State = _PHASES.get(phase, "pending")
        if state == "running" and "waiting" in status.get("state", {}):
            state = "pending"
        ended = status.get("state", {}).get("terminated", {})
        cause = ""
        if state == "failed":
            cause = failure(pod)
        elif state == "succeeded" and ended.get("message"):
            state, cause = "failed", failure(pod)  # the step ended well for the run, its family did not
        elif state == "pending":
            cause = self._wait(pod)
        first = main_status(pods[0]).get("state", {})
        begun = (first.get("terminated") or first.get("running") or {}).get("startedAt")
        return Progress(
            state,
            start=moment(begun or pods[0]["metadata"].get("creationTimestamp")),
            end=_ended(pod) if state in ("succeeded", "failed") else None,
            attempt=_attempt(pod) + 1,
            node=_node(pod),
            cause=cause,
        )

    def _wait(self, pod: dict[str, Any]) -> str:
        name = pod["metadata"]["name"]
        ours = [one.get("message", "") for one in self._all_events() if one["involvedObject"].get("name") == name]
        return waiting(pod, events=ours, claim_phase=self._claim_phase)

    def _claim_phase(self, name: str) -> str:
        if self._cluster is None:
            return ""
        try:
            path = f"/api/v1/namespaces/{self._cluster.namespace}/persistentvolumeclaims/{name}"
            return str(self._cluster.request("GET", path).get("status", {}).get("phase", ""))
        except Refused as error:
            return "absent" if error.status == 404 else ""
        except ClusterError:
            return ""

    def _event(self, step: Step) -> str:
        """Return what Argo's events say of a step that has no container: its pod was refused."""
        path = (*step.path, "executor")
        for event in reversed(self._all_events()):
            found = _NODE_EVENT.search(event.get("message", ""))
            if found and event["involvedObject"].get("kind") == "Workflow" and _path(found[1]) == path:
                return refusal(found[2])
        return ""

    def _all_events(self) -> list[dict[str, Any]]:
        """Return the events of the namespace, oldest first; asked for once for each look."""
        if self._events is None:
            self._events = []
            if self._cluster is not None:
                try:
                    found = self._cluster.request("GET", f"/api/v1/namespaces/{self._cluster.namespace}/events")
                    self._events = sorted(found["items"], key=_when)
                except (ClusterError, Refused) as error:
                    logger.debug("events cannot be read: %s", error)
        return self._events


def _when(event: dict[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event["metadata"].get("creationTimestamp"))


def _path(node_name: str) -> tuple[str, ...]:
    """Return a node's path below the workflow, without attempts: ``x(0).root(0).a.onExit(0).b(0)`` is root, a.onExit, b."""
    parts = _ATTEMPT.sub("", node_name).split(".")[1:]
    path: list[str] = []
    for part in parts:
        if part == "onExit" and path:
            path[-1] += ".onExit"
        else:
            path.append(part)
    return tuple(path)


def _attempt(pod: dict[str, Any]) -> int:
    numbers = _ATTEMPT.findall(pod["metadata"].get("annotations", {}).get(NODE_NAME, ""))
    name = pod["metadata"].get("annotations", {}).get(NODE_NAME, "")
    return int(numbers[-1]) if numbers and name.endswith(f"({numbers[-1]})") else 0


def _node(pod: dict[str, Any]) -> str:
    return str(pod["metadata"].get("annotations", {}).get(NODE_ID, ""))


def _ended(pod: dict[str, Any]) -> Any:
    return moment(main_status(pod).get("state", {}).get("terminated", {}).get("finishedAt"))
