"""The doctor's question about quotas and limit ranges: which of a run's pods would they refuse?"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from caloforge.cluster import Refused
from caloforge.pipelines.admission import RunPod, amounts, charged, refusals, shown, unstated, with_defaults
from caloforge.pipelines.findings import Finding, Site, State
from caloforge.pipelines.manifest_examples import QUOTA_FOLDER
from caloforge.pipelines.planned_pods import planned_pods
from caloforge.pipelines.products import PRODUCTS

_OURS = frozenset(("main", "trial", "node", "kserve-container"))
"""Containers whose resources the settings say."""

_ALL_OF_OURS = frozenset(("NotBestEffort",))
"""Scopes that hold for every pod of a run."""


def check_quotas(site: Site) -> Iterator[Finding]:
    """Do quotas and limit ranges of the namespace let the pods of a run start?"""
    try:
        ranges = site.of_namespace("limitranges")["items"]
        quotas = site.of_namespace("resourcequotas")["items"]
    except Refused:
        look = f"kubectl describe resourcequotas,limitranges --namespace {site.namespace}"
        yield Finding("unknown", "quotas and limit ranges may not be listed", look)
        return
    if not ranges and not quotas:
        yield Finding("ok", f"{site.namespace} has no quota and no limit range")
        return
    pods = [with_defaults(pod, ranges) for pod in planned_pods(site)]
    if ranges:
        yield from _ranges(site, ranges, pods)
    for quota in quotas:
        yield from _quota(site, quota, pods)


def _ranges(site: Site, ranges: list[Any], pods: list[RunPod]) -> Iterator[Finding]:
    names = ", ".join(one["metadata"]["name"] for one in ranges)
    refused: dict[str, list[str]] = {}
    for pod in pods:
        for why in refusals(pod, ranges):
            refused.setdefault(why, []).append(pod.name)
    look = f"kubectl describe limitranges --namespace {site.namespace}"
    for why, which in refused.items():
        fix = f"{look}; then cpu, cpu_limit or memory of pod or resources in the settings"
        yield Finding("failed", f"limit range {names} refuses {', '.join(which)}: {why}", fix)
    if not refused:
        yield Finding("ok", f"limit range {names} refuses none of a run's pods")


def _quota(site: Site, quota: Any, pods: list[RunPod]) -> Iterator[Finding]:
    name = quota["metadata"]["name"]
    look = f"kubectl describe resourcequota {name} --namespace {site.namespace}"
    if scopes := _scopes(quota) - _ALL_OF_OURS:
        yield Finding("unknown", f"quota {name} holds for some pods only (scope {', '.join(sorted(scopes))})", look)
        return
    hard = amounts(quota["spec"].get("hard"))
    found = [*_unstated(site, name, hard, pods), *_counted(site, name, hard, _used(quota), pods, look)]
    yield from found or [Finding("ok", f"quota {name} has room for each of a run's pods")]


def _unstated(site: Site, name: str, hard: dict[str, Decimal], pods: list[RunPod]) -> Iterator[Finding]:
    """Yield what a quota counts and containers do not state: those of Argo are in every pod of a run."""
    others, ours = dict[str, set[str]](), dict[str, set[str]]()
    for pod in pods:
        for counted, containers in unstated(pod, hard).items():
            for container in containers:
                if container in _OURS and pod.name != "driver":
                    ours.setdefault(counted, set()).add(pod.name)
                else:
                    others.setdefault(counted, set()).add(container)
    if others:
        containers_of_others = sorted(set().union(*others.values()))
        text = (
            f"quota {name} wants {', '.join(others)} of every container, and {', '.join(containers_of_others)} state none: "
            "no pipeline starts"
        )
        yield Finding("failed", text, _default_for(site, set(others)))
    if ours:
        pods_of_ours = sorted(set().union(*ours.values()))
        text = f"quota {name} wants {', '.join(ours)} of {', '.join(pods_of_ours)}, which state none"
        yield Finding("failed", text, 'pod: {cpu_limit: "4"} of the settings, and of service')


def _default_for(site: Site, counted: set[str]) -> str:
    """Return what gives containers a default of what a quota counts."""
    if all(name.startswith("requests.") for name in counted):
        return f"kubectl apply --namespace {site.namespace} -f manifests/{QUOTA_FOLDER}/limitrange.yaml"
    return (
        f"kubectl edit limitrange --namespace {site.namespace}: default: {{cpu: ..., memory: ...}} for containers, not less "
        "than what the steps request, and cpu_limit in the settings"
    )


def _counted(
    site: Site, name: str, hard: dict[str, Decimal], used: dict[str, Decimal], pods: list[RunPod], look: str
) -> Iterator[Finding]:
    """Yield what is more than a quota allows at all, or has left now."""
    settings = f"{look}; or less in resources of the settings"
    for counted, most in hard.items():
        asking = {pod.name: charged(pod).get(counted, Decimal(0)) for pod in pods}
        refused = [pod for pod, amount in asking.items() if amount > most]
        waiting = [pod for pod, amount in asking.items() if most >= amount > most - used.get(counted, Decimal(0))]
        if refused:
            amount = max(asking[pod] for pod in refused)
            text = f"quota {name} allows {shown(counted, most)} {counted}, {', '.join(refused)} ask for {shown(counted, amount)}"
            yield Finding("failed", text, settings)
        elif waiting:
            left = most - used.get(counted, Decimal(0))
            text = (
                f"quota {name} has {shown(counted, left)} of {shown(counted, most)} {counted} left, "
                f"{', '.join(waiting)} would wait"
            )
            yield Finding("warning", text, look)
    for use, counted in _objects(site):
        if counted in hard and used.get(counted, Decimal(0)) >= hard[counted]:
            state: State = "failed" if not hard[counted] else "warning"
            text = f"quota {name} allows {hard[counted]:f} {counted}, {used.get(counted, Decimal(0)):f} are there"
            yield Finding(state, text, f"{look}; {use} needs one")


def _objects(site: Site) -> Iterator[tuple[str, str]]:
    """Yield what a run makes beside pods: what for, and what a quota calls it."""
    for part, use in (("katib", "tune"), ("trainer", "distribute"), ("kserve", "deploy")):
        if use in site.wanted:
            for kind in PRODUCTS[part].kinds:  # type: ignore[index]
                yield use, f"count/{kind.plural}.{kind.group}"


def _scopes(quota: Any) -> set[str]:
    selector = quota["spec"].get("scopeSelector", {}).get("matchExpressions", [])
    return {*quota["spec"].get("scopes", []), *(one["scopeName"] for one in selector)}


def _used(quota: Any) -> dict[str, Decimal]:
    return amounts(quota.get("status", {}).get("used"))
