"""The doctor's question about nodes: is there one that is large enough for each step?"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from caloforge.cluster import Refused
from caloforge.pipelines.admission import amounts, shown
from caloforge.pipelines.findings import Finding, Site
from caloforge.pods import Pod, Toleration, resources

_PLACE = "kubectl describe nodes; then resources of the settings"


def check_nodes(site: Site) -> Iterator[Finding]:
    """Is there a node for each step: cores, memory, GPUs, labels, taints?"""
    pods = site.pods()
    asking = {name: pod for name, pod in pods.items() if pod.gpus}
    try:
        nodes = site.get("/api/v1/nodes")["items"]
    except Refused:
        kinds = " ".join(sorted({pod.gpu_type for pod in asking.values()})) or "nvidia.com/gpu"
        columns = ",".join(
            f"{kind}:.status.allocatable.{kind.replace('.', chr(92) + '.')}"
            for kind in ("cpu", "memory", *kinds.split())
        )
        show = f"kubectl get nodes -o custom-columns=NAME:.metadata.name,{columns}   # an administrator"
        yield Finding("unknown", f"nodes may not be listed; the largest step asks for {_largest(pods)}", show)
        return
    small, refused = 0, dict[tuple[str, str], list[str]]()
    for name, pod in pods.items():
        fitting, why = _fitting(pod, nodes)
        if not fitting:
            refused.setdefault((_asked(pod), why), []).append(name)
        elif pod.gpus:
            yield Finding("ok", f"{name}: {_asked(pod)}: {len(fitting)} nodes, e.g. {fitting[0]}")
        else:
            small += 1
    for (asked, why), names in refused.items():
        fix = f"{_PLACE} (cpu, memory, gpus, gpu_type, node_selector, tolerations)"
        yield Finding("failed", f"{', '.join(names)}: {asked}: no node fits: {why}", fix)
    if small:
        yield Finding("ok", f"{small} pods ask for no GPUs; {len(nodes)} nodes, {_gpus(nodes)}")
    if site.settings.trains_in_train_job and "distribute" in site.wanted:
        yield from _together(site, nodes)


def _fitting(pod: Pod, nodes: list[Any]) -> tuple[list[str], str]:
    """Return the nodes that a pod fits on, and why it does not fit on the others."""
    obstacles = {node["metadata"]["name"]: obstacle(node, pod) for node in nodes}
    said = "; ".join(sorted({no for no in obstacles.values() if no})) or "there are no nodes"
    return [name for name, no in obstacles.items() if not no], said


def _together(site: Site, nodes: list[Any]) -> Iterator[Finding]:
    """Say whether all pods of a TrainJob have room at the same time."""
    pod, needed = site.settings.training_pod(), site.settings.distributed.nodes
    wanted = _wanted(pod)
    room = sum(
        min(int(_allocatable(node, name) // amount) for name, amount in wanted.items() if amount)
        for node in nodes
        if not obstacle(node, pod)
    )
    if 0 < room < needed:
        text = f"a TrainJob has {needed} pods of {_asked(pod)}, the nodes have room for {room}: it would wait for ever"
        yield Finding("failed", text, f"{_PLACE}: {{train}}, or distributed: {{nodes: {room}}}")


def obstacle(node: dict[str, Any], pod: Pod) -> str:
    """Say why a pod cannot run on a node; empty if it can once the node is free."""
    labels, spec = node["metadata"].get("labels", {}), node.get("spec", {})
    wrong = [f"{key}={value}" for key, value in pod.node_selector.items() if labels.get(key) != value]
    if wrong:
        return f"without label {', '.join(wrong)}"
    for name, amount in _wanted(pod).items():
        if (there := _allocatable(node, name)) < amount:
            return f"with {shown(name, there)} {name}{_other_gpus(node, pod) if name == pod.gpu_type else ''}"
    if spec.get("unschedulable"):
        return "cordoned (kubectl uncordon)"
    if any(one["type"] == "Ready" and one["status"] != "True" for one in node["status"].get("conditions", [])):
        return "not ready"
    for taint in spec.get("taints", []):
        if taint["effect"] != "PreferNoSchedule" and not any(_bears(one, taint) for one in pod.tolerations):
            return f"with the taint {taint['key']}:{taint['effect']}"
    return ""


def _wanted(pod: Pod) -> dict[str, Decimal]:
    return amounts(resources(pod)["requests"])


def _allocatable(node: dict[str, Any], name: str) -> Decimal:
    return Decimal(parse_quantity(node.get("status", {}).get("allocatable", {}).get(name, "0")))


def _asked(pod: Pod) -> str:
    return f"{pod.gpus} x {pod.gpu_type}" if pod.gpus else f"{pod.cpu} cpu, {pod.memory} memory"


def _largest(pods: dict[str, Pod]) -> str:
    def size(pod: Pod) -> tuple[Any, ...]:
        return pod.gpus, parse_quantity(pod.memory), parse_quantity(pod.cpu)

    largest = max(pods.values(), key=size)
    gpus = f", {largest.gpus} x {largest.gpu_type}" if largest.gpus else ""
    return f"{largest.cpu} cpu, {largest.memory} memory{gpus}"


def _other_gpus(node: dict[str, Any], pod: Pod) -> str:
    """Name what else there is: a site may call its GPUs otherwise."""
    others = [name for name in _gpu_types(node) if name != pod.gpu_type]
    return f" (but {', '.join(others)})" if others else ""


def _gpu_types(node: dict[str, Any]) -> list[str]:
    allocatable = node.get("status", {}).get("allocatable", {})
    return [name for name in allocatable if ("gpu" in name or "/mig-" in name) and _allocatable(node, name)]


def _gpus(nodes: list[Any]) -> str:
    """Count the GPUs of all nodes, so that one sees what train_gpus may be."""
    kinds = sorted({kind for node in nodes for kind in _gpu_types(node)})
    counted = [f"{sum(_allocatable(node, kind) for node in nodes):f} x {kind}" for kind in kinds]
    return f"with {', '.join(counted)}" if counted else "without GPUs"


def _bears(toleration: Toleration, taint: dict[str, str]) -> bool:
    if toleration.effect not in (None, taint["effect"]) or toleration.key not in (None, taint["key"]):
        return False
    return toleration.operator == "Exists" or toleration.value == taint.get("value", "")
