"""Pod Security Standards of Kubernetes 1.34, as its admission plugin applies them; for Linux.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

_CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
_SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
}  # fmt: skip
_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def baseline(pod: Object) -> list[str]:
    """Return what ``baseline`` refuses in a pod or template (``metadata`` and ``spec``), each once."""
    return list(dict.fromkeys(_baseline(pod)))


def restricted(pod: Object) -> list[str]:
    """Return what ``restricted`` refuses: all that ``baseline`` does, and more."""
    return list(dict.fromkeys([*_baseline(pod), *_restricted(pod["spec"])]))


def _baseline(pod: Object) -> Iterator[str]:
    spec, contexts = pod["spec"], _contexts(pod["spec"])
    if any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
        yield "host namespaces"
    if any("hostPath" in volume for volume in spec.get("volumes", [])):
        yield "hostPath volumes"
    for key, value in pod.get("metadata", {}).get("annotations", {}).items():
        allowed = value in ("", "runtime/default") or value.startswith("localhost/")
        if key.startswith("container.apparmor.security.beta.kubernetes.io/") and not allowed:
            yield "forbidden AppArmor profiles"
    if not {item["name"] for item in contexts[0].get("sysctls", [])} <= _SYSCTLS:
        yield "forbidden sysctls"
    for context in contexts:
        if context.get("windowsOptions", {}).get("hostProcess"):
            yield "hostProcess"
        if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
            yield "forbidden AppArmor profiles"
        linux = context.get("seLinuxOptions", {})
        if linux.get("type", "") not in _SELINUX_TYPES or linux.get("user") or linux.get("role"):
            yield "seLinuxOptions"
        if context.get("seccompProfile", {}).get("type") == "Unconfined":
            yield "seccompProfile"
    for container, context in zip(_containers(spec), contexts[1:], strict=True):
        if context.get("privileged"):
            yield "privileged"
        if not set(context.get("capabilities", {}).get("add", [])) <= _CAPABILITIES:
            yield "non-default capabilities"
        if context.get("procMount", "Default") != "Default":
            yield "procMount"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield "hostPort"
        handlers = [container.get(f"{name}Probe", {}) for name in ("liveness", "readiness", "startup")]
        handlers += container.get("lifecycle", {}).values()
        if any(handler.get(kind, {}).get("host") for handler in handlers for kind in ("httpGet", "tcpSocket")):
            yield "probe or lifecycle host"


def _restricted(spec: Object) -> Iterator[str]:
    pod, *containers = _contexts(spec)
    if any(not volume.keys() - {"name"} <= _VOLUMES for volume in spec.get("volumes", [])):
        yield "restricted volume types"
    if any(context.get("allowPrivilegeEscalation") is not False for context in containers):
        yield "allowPrivilegeEscalation != false"
    for context in containers:
        capabilities = context.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []) or not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
            yield "unrestricted capabilities"
    if any(context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True for context in containers):
        yield "runAsNonRoot != true"
    if any(context.get("runAsUser") == 0 for context in (pod, *containers)):
        yield "runAsUser=0"
    profiles = [context.get("seccompProfile", pod.get("seccompProfile", {})) for context in containers]
    if any(profile.get("type") not in ("RuntimeDefault", "Localhost") for profile in profiles):
        yield "seccompProfile"


def _containers(spec: Object) -> list[Object]:
    return [container for kind in _CONTAINERS for container in spec.get(kind, [])]


def _contexts(spec: Object) -> list[Object]:
    """Return the security context of the pod, then those of its containers."""
    return [item.get("securityContext", {}) for item in (spec, *_containers(spec))]
