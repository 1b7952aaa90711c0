"""Watch an InferenceService until its new servers are there, and say why they are not."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from caloforge.cluster import INFERENCE_SERVICE, Cluster, ClusterError, Refused, conditions, event_line
from caloforge.container_end import why_ended
from caloforge.serving.errors import ServingError
from caloforge.serving.inference_service import SPECIFICATION

logger = logging.getLogger(__name__)

_HOPELESS = ("ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")
"""A container that waits for one of these will not start by itself."""

_CRASHES = 2
"""So many restarts are borne: the network of a pod may come up after its first container."""

GRACE_SECONDS = 60.0
"""What is not there may still be on its way for so long."""

_NOT_THERE = re.compile(r'(?P<kind>secret|configmap|persistentvolumeclaim|serviceaccount) "(?P<name>[^"]+)" not found')
_REFUSED = "violates PodSecurity"

TAG = "latest-"
"""KServe's tag of the newest revision, in the front of its host name."""


class NotServed(ServingError):
    """The new servers did not come up."""


@dataclass(frozen=True)
class Expected:
    """How the new servers are told from those before them.

    Attributes:
        name: of the service.
        generation: of the object that was written.
        specification: digest in the labels of the new pods.
        revision: Knative's newest revision before, None if it stays the newest.
    """

    name: str
    generation: int
    specification: str
    revision: str | None = None


class Overtaken(NotServed):
    """Somebody else has changed the service meanwhile; it is theirs now."""


def wait_until_served(
    expected: Expected, cluster: Cluster, *, timeout: float, told: ServiceEvents | None = None
) -> dict[str, Any]:
    """Return the InferenceService once its new servers are ready.

    Args:
        expected: what is waited for.
        cluster: where.
        timeout: seconds to wait.
        told: the service's events since it was written; without it those from now on.

    Raises:
        NotServed: they are not after ``timeout`` seconds, or will never be. What the cluster says about it
            is in the log.
        Overtaken: the service has another specification by now.
    """
    shown, item, text = "", {}, ""
    told = told or ServiceEvents(expected.name, cluster)
    blocked, since = "", time.monotonic()
    try:
        for item in cluster.watch(INFERENCE_SERVICE, expected.name, timeout=timeout):
            check_ours(item, expected.specification)
            pods = _pods(expected, cluster)
            if _served(item, expected, pods):
                return item
            if text := _trouble(pods or [], expected):
                break
            new = [pod for pod in pods or [] if _is_new(pod, expected)]
            if (missing := _missing(item, told.fresh(pods), new)) != blocked:
                blocked, since = missing, time.monotonic()
            if blocked and time.monotonic() - since > GRACE_SECONDS:
                text = blocked
                break
            progress = "; ".join(filter(None, (_progress(item, pods), blocked)))
            if progress != shown:
                logger.info("%s: %s", expected.name, progress)
                shown = progress
    except TimeoutError:
        text = f"not ready after {timeout:g} s ({shown})"
    _explain(item, _pods(expected, cluster) or [], told, cluster)
    raise NotServed(f"InferenceService {expected.name}: {text}")


def check_ours(item: dict[str, Any], specification: str) -> None:
    """Raise Overtaken if a service has another specification than ours, which is empty where nobody asks."""
    if specification and _specification(item) != specification:
        run = item["metadata"].get("annotations", {}).get("caloforge/run")
        who = f"run {run}" if run else "somebody"
        text = (
            f"InferenceService {item['metadata']['name']}: {who} has changed it meanwhile; give each run its own name"
        )
        raise Overtaken(text)


def ready_pod(expected: Expected, cluster: Cluster) -> tuple[str, int]:
    """Return the name of a new pod that is ready, and the port where its server listens.

    Raises:
        NotServed: there is none, or pods may not be seen.
    """
    for pod in _pods(expected, cluster) or []:
        if _is_ready(pod) and _is_new(pod, expected):
            return pod["metadata"]["name"], _port(pod)
    raise NotServed(f"InferenceService {expected.name}: no ready pod of it can be seen")


def address(item: dict[str, Any], *, inside: bool, newest: bool = False) -> str:
    """Return where a service answers.

    Args:
        item: the InferenceService.
        inside: whether to ask from within the cluster.
        newest: ask its newest revision, which has no traffic yet.

    Raises:
        NotServed: it has no address.
    """
    status = item["status"]
    if newest:
        status = status["components"]["predictor"]
    inner, outer = status.get("address", {}).get("url"), status.get("url")
    found = (inner or outer) if inside else (outer or inner)
    if not found:
        raise NotServed(f"InferenceService {item['metadata']['name']}: is ready, but has no address")
    if not newest:
        return str(found).rstrip("/")
    tagged = [entry["url"] for entry in status.get("traffic", []) if entry.get("tag") == TAG[:-1] and entry.get("url")]
    if tagged and not (inside and inner):
        return str(tagged[0]).rstrip("/")
    parts = urlsplit(found)
    return str(parts._replace(netloc=TAG + parts.netloc).geturl()).rstrip("/")


def revisions(item: dict[str, Any]) -> dict[str, Any]:
    """Return what KServe says of Knative's revisions; empty in the mode Standard."""
    predictor = item.get("status", {}).get("components", {}).get("predictor", {})
    return {key: value for key, value in predictor.items() if key.endswith("Revision") and value}


def _served(item: dict[str, Any], expected: Expected, pods: list[dict[str, Any]] | None) -> bool:
    observed = item.get("status", {}).get("observedGeneration")
    if observed is not None and observed < expected.generation:
        return False
    if conditions(item).get("Ready", {}).get("status") != "True":
        return False
    if known := revisions(item):
        newest = known.get("latestReadyRevision")
        return newest == known.get("latestCreatedRevision") and newest != expected.revision
    # In the mode Standard the condition stays true while the pods are being replaced one by one.
    if pods is None:
        return True
    # Without pods only a service that Knative has put to sleep is fine.
    minimum = item["spec"]["predictor"].get("minReplicas", 1)
    return all(_is_ready(pod) and _is_new(pod, expected) for pod in pods) and (bool(pods) or minimum == 0)


def _pods(expected: Expected, cluster: Cluster) -> list[dict[str, Any]] | None:
    """Return the pods that serve or will, None if they may not be seen."""
    try:
        found = cluster.pods(f"serving.kserve.io/inferenceservice={expected.name}")
    except Refused as error:
        logger.warning("%s; cannot tell new servers from old ones", error)
        return None
    return [
        pod
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    ]


def _specification(item: dict[str, Any]) -> str:
    return str(item["spec"]["predictor"].get("labels", {}).get(SPECIFICATION, ""))


def _port(pod: dict[str, Any]) -> int:
    """Return where the server of a pod listens."""
    for container in pod.get("spec", {}).get("containers", []):
        if container["name"] == "kserve-container":
            for port in container.get("ports", []):
                return int(port["containerPort"])
    return 8080


def _is_new(pod: dict[str, Any], expected: Expected) -> bool:
    return bool(pod["metadata"].get("labels", {}).get(SPECIFICATION) == expected.specification)


def _is_ready(pod: dict[str, Any]) -> bool:
    return conditions(pod).get("Ready", {}).get("status") == "True"


def _progress(item: dict[str, Any], pods: list[dict[str, Any]] | None) -> str:
    ready = conditions(item).get("Ready", {})
    parts = [f"{ready.get('reason') or 'not ready yet'} {ready.get('message') or ''}".strip()]
    for pod in pods or []:
        scheduled = conditions(pod).get("PodScheduled", {})
        if scheduled.get("status") == "False":
            parts.append(f"{pod['metadata']['name']} has no node: {scheduled.get('message')}")
        for container in _containers(pod):
            if container.get("restartCount") and not container.get("ready") and (why := why_ended(pod, container)):
                parts.append(f"{pod['metadata']['name']} was started again: {container['name']}: {why}")
    return "; ".join(parts)


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _trouble(pods: list[dict[str, Any]], expected: Expected) -> str:
    """Say why a new pod will never be ready; empty as long as it may."""
    for pod in pods:
        if not _is_new(pod, expected):
            continue
        for container in _containers(pod):
            waiting = container.get("state", {}).get("waiting", {})
            why = why_ended(pod, container)
            if waiting.get("reason") in _HOPELESS:
                return f"container {container['name']}: {waiting['reason']}: {waiting.get('message', 'see the events')}"
            # What needs more memory will need it again.
            often = container.get("restartCount", 0) >= _CRASHES and "running" not in container.get("state", {})
            if why and (often or why.startswith("OOMKilled")):
                return f"container {container['name']}: {why}"
    return ""


def _missing(item: dict[str, Any], events: list[dict[str, Any]], pods: list[dict[str, Any]]) -> str:
    """Say what the servers need and the cluster does not have; empty if nothing is known to be missing.

    An event stays when what it missed has come: it counts as long as the pod it is about has not begun, or, if it
    is about no pod, as there is none.

    Args:
        item: the InferenceService.
        events: its events.
        pods: its new pods.
    """
    model = item.get("status", {}).get("modelStatus", {})
    if model.get("transitionStatus") == "InvalidSpec":
        failure = model.get("lastFailureInfo", {})
        runtime = item["spec"]["predictor"].get("model", {}).get("runtime")
        if failure.get("reason") == "RuntimeNotRecognized":
            return f"ServingRuntime {runtime!r} is not there: apply manifests/base, or take runtime out of the settings"
        return f"{failure.get('reason')}: {failure.get('message')}"
    begun = {pod["metadata"]["name"] for pod in pods if any("waiting" not in one["state"] for one in _containers(pod))}
    for event in reversed(events):
        involved = event["involvedObject"]
        if involved["name"] in begun or (involved.get("kind") != "Pod" and pods):
            continue
        if found := _NOT_THERE.search(str(event.get("message"))):
            return f"{found['kind']} {found['name']!r} is not there (namespace {item['metadata'].get('namespace')})"
        if _REFUSED in str(event.get("message")):
            return event_line(event)
    return ""


class ServiceEvents:
    """The events of one service and of what it is made of, since now: those of a deployment before stay out.

    Other services whose names begin alike are none of its business.
    """

    def __init__(self, name: str, cluster: Cluster) -> None:
        self._cluster = cluster
        self._readable = True
        # KServe's Deployment and its ReplicaSets; Knative's revisions have a number.
        self._parts = re.compile(rf"{re.escape(name)}(-predictor(-\d{{5}})?(-deployment)?(-[a-z0-9]{{5,10}})?)?")
        self._before = {self._identity(event) for event in self._all()}

    def fresh(self, pods: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
        """Return the events since the beginning, oldest first.

        Args:
            pods: those of the service; None if they may not be seen.
        """
        names = None if pods is None else {pod["metadata"]["name"] for pod in pods}
        return [
            event
            for event in self._all()
            if self._identity(event) not in self._before and self._is_ours(event["involvedObject"], names)
        ]

    def _is_ours(self, involved: dict[str, Any], pods: set[str] | None) -> bool:
        name: str = involved["name"]
        if involved.get("kind") != "Pod":
            return self._parts.fullmatch(name) is not None
        owner = name.rpartition("-")[0]
        return name in pods if pods is not None else self._parts.fullmatch(owner) is not None and "-predictor" in owner

    def _all(self) -> list[dict[str, Any]]:
        if self._readable:
            try:
                return self._cluster.all_events()
            except (Refused, ClusterError) as error:
                logger.warning("events cannot be read: %s", error)
                self._readable = not isinstance(error, Refused)
        return []

    @staticmethod
    def _identity(event: dict[str, Any]) -> tuple[Any, ...]:
        """Return what another occurrence of an event changes."""
        series = event.get("series") or {}
        return event["metadata"]["name"], event.get("count"), event.get("lastTimestamp"), series.get("count")


def _explain(item: dict[str, Any], pods: list[dict[str, Any]], told: ServiceEvents, cluster: Cluster) -> None:
    """Log all that the cluster says about a service that does not come up."""
    for kind, entry in conditions(item).items():
        said = ": ".join(str(entry[key]) for key in ("reason", "message") if entry.get(key))
        logger.warning("condition %s: %s %s", kind, entry["status"], said)
    for pod in pods:
        name = pod["metadata"]["name"]
        for container in _containers(pod):
            if container.get("ready"):
                continue
            waiting = container.get("state", {}).get("waiting", {})
            reasons = [waiting.get("reason"), waiting.get("message"), why_ended(pod, container)]
            state = ": ".join(str(one) for one in reasons if one) or "not ready"
            logger.warning("pod %s, container %s: %s", name, container["name"], state)
            if tail := cluster.log_tail(name, container["name"]):
                logger.warning("its log ends:\n%s", tail)
    for event in told.fresh(pods)[-20:]:
        logger.warning("event %s", event_line(event))
