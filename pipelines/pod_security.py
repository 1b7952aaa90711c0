"""The Pod Security Standards of Kubernetes, as far as pods like ours can offend against them."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

Level = Literal["privileged", "baseline", "restricted"]

LABEL = "pod-security.kubernetes.io/enforce"
"""Label of a namespace: pods that offend against its level are refused."""

_VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)
"""Kinds of volumes that ``restricted`` allows."""

_PROFILES = ("RuntimeDefault", "Localhost")

Spec = Mapping[str, Any]


def violations(pod: Spec, level: Level) -> list[str]:
    """Return how a pod's spec offends against a level, in the words of Kubernetes; nothing if it does not."""
    if level == "privileged":
        return []
    return [*_baseline(pod), *(_restricted(pod) if level == "restricted" else ())]


def _baseline(pod: Spec) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    if names := [volume["name"] for volume in pod.get("volumes", []) if "hostPath" in volume]:
        yield f"hostPath volumes ({', '.join(names)})"
    for container in _containers(pod):
        if _security(container).get("privileged"):
            yield f"privileged ({container['name']})"


def _restricted(pod: Spec) -> Iterator[str]:
    wrong = [
        volume["name"] for volume in pod.get("volumes", []) if not _VOLUMES & volume.keys() and "hostPath" not in volume
    ]
    if wrong:
        yield f"restricted volume types ({', '.join(wrong)})"
    general = pod.get("securityContext") or {}
    lacking: dict[str, list[str]] = {}
    for container in _containers(pod):
        own = _security(container)
        profile = own.get("seccompProfile") or general.get("seccompProfile") or {}
        states = {
            "allowPrivilegeEscalation != false": own.get("allowPrivilegeEscalation") is False,
            "unrestricted capabilities": "ALL" in (own.get("capabilities") or {}).get("drop", ()),
            "runAsNonRoot != true": own.get("runAsNonRoot", general.get("runAsNonRoot")) is True,
            "runAsUser=0": own.get("runAsUser", general.get("runAsUser")) != 0,
            "seccompProfile": profile.get("type") in _PROFILES,
        }
        for what, is_right in states.items():
            if not is_right:
                lacking.setdefault(what, []).append(container["name"])
    for what, names in lacking.items():
        yield f"{what} ({', '.join(names)})"


def _containers(pod: Spec) -> list[Any]:
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def _security(container: Any) -> Mapping[str, Any]:
    return container.get("securityContext") or {}
