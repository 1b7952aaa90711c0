"""Say how a container ended, by what its pod's status keeps of it."""

from __future__ import annotations

from typing import Any


def why_ended(pod: dict[str, Any], container: dict[str, Any]) -> str:
    """Return why a container ended the last time, in one line; empty if it has not, or ended well.

    A container that is started again and again waits in ``CrashLoopBackOff``, which says nothing: its last
    state does.

    Args:
        pod: the Pod.
        container: one of its container statuses.
    """
    end = last_end(container)
    if end is None or end.get("exitCode") == 0:
        return ""
    if end.get("reason") == "OOMKilled":
        limit = _memory(pod, container["name"])
        return f"OOMKilled: memory is {limit}" if limit else "OOMKilled: the node has no more memory"
    text = f"exit code {end.get('exitCode')}"
    if end.get("reason") not in (None, "", "Error"):
        text = f"{end['reason']} ({text})"
    said = str(end.get("message") or "").strip().splitlines()  # what it wrote to /dev/termination-log, or its log
    return f"{text}: {said[-1].strip()}" if said else text


def last_end(container: dict[str, Any]) -> dict[str, Any] | None:
    """Return how a container ended the last time, as Kubernetes writes it."""
    for state in ("state", "lastState"):
        end: dict[str, Any] | None = container.get(state, {}).get("terminated")
        if end is not None:
            return end
    return None


def _memory(pod: dict[str, Any], name: str) -> str:
    spec = pod.get("spec", {})
    for container in (*spec.get("initContainers", []), *spec.get("containers", [])):
        if container["name"] == name:
            return str(container.get("resources", {}).get("limits", {}).get("memory", ""))
    return ""
