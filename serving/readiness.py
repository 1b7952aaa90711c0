"""Watch an InferenceService until its new servers are there, and say why they are not."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from caloforge.cluster import INFERENCE_SERVICE, Cluster, Refused, conditions
from caloforge.serving.errors import ServingError
from caloforge.serving.inference_service import SPECIFICATION

logger = logging.getLogger(__name__)

_HOPELESS = ("ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")
"""A container that waits for one of these will not start by itself."""

_CRASHES = 2
"""So many restarts are borne: the network of a pod may come up after its first container."""

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


def wait_until_served(expected: Expected, cluster: Cluster, *, timeout: float) -> dict[str, Any]:
    """Return the InferenceService once its new servers are ready.

    Args:
        expected: what is waited for.
        cluster: where.
        timeout: seconds to wait.

    Raises:
        NotServed: they are not after ``timeout`` seconds, or will never be. What the cluster says about it
            is in the log.
    """
    shown, item, text = "", {}, ""
    try:
        for item in cluster.watch(INFERENCE_SERVICE, expected.name, timeout=timeout):
            pods = _pods(expected, cluster)
            if _served(item, expected, pods):
                return item
            if text := _trouble(pods or [], expected):
                break
            progress = _progress(item, pods)
            if progress != shown:
                logger.info("%s: %s", expected.name, progress)
                shown = progress
    except TimeoutError:
        text = f"not ready after {timeout:g} s ({shown})"
    _explain(item, _pods(expected, cluster) or [], expected, cluster)
    raise NotServed(f"InferenceService {expected.name}: {text}")


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
            reason = waiting.get("reason")
            crashes = reason == "CrashLoopBackOff" and container.get("restartCount", 0) >= _CRASHES
            if reason in _HOPELESS or crashes:
                return f"container {container['name']}: {reason}: {waiting.get('message', 'see its log')}"
    return ""


def _explain(item: dict[str, Any], pods: list[dict[str, Any]], expected: Expected, cluster: Cluster) -> None:
    """Log all that the cluster says about a service that does not come up."""
    for kind, entry in conditions(item).items():
        said = ": ".join(str(entry[key]) for key in ("reason", "message") if entry.get(key))
        logger.warning("condition %s: %s %s", kind, entry["status"], said)
    for pod in pods:
        name = pod["metadata"]["name"]
        for container in _containers(pod):
            if container.get("ready"):
                continue
            state = ", ".join(f"{key} {value}" for key, value in container.get("state", {}).items())
            logger.warning("pod %s, container %s: %s", name, container["name"], state)
            if tail := cluster.log_tail(name, container["name"]):
                logger.warning("its log ends:\n%s", tail)
    for event in cluster.events(expected.name):
        logger.warning("event %s", event)
